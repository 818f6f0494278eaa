/** The sessions that are lent by one guest and extracted by the other: each has bytes of its own, by which it is known again. */
import { Random } from '../../src/fabric/mock/random.js'

export interface SessionsPlan {
  readonly sessions: number
  readonly sessionBytes: number
}

/** Of a payload and its neighbour's, so that none is another's. */
const apartBytes = 8

export class PlannedSessions {
  readonly #bytes: Uint8Array

  constructor(private readonly plan: SessionsPlan) {
    this.#bytes = new Uint8Array(plan.sessions * apartBytes + plan.sessionBytes)
    new Random(1).fill(this.#bytes)
  }

  idOf(index: number): string {
    return `session-${index}`
  }

  payloadOf(index: number): Uint8Array {
    return this.#bytes.subarray(index * apartBytes, index * apartBytes + this.plan.sessionBytes)
  }

  /** @returns how many of the planned sessions are among those that were found, whole */
  countRight(found: readonly { readonly id: string; readonly payload: Uint8Array }[]): number {
    const payloads = new Map(found.map(({ id, payload }) => [id, payload]))
    let right = 0
    for (let index = 0; index < this.plan.sessions; index++) {
      const payload = payloads.get(this.idOf(index))
      if (payload !== undefined && Buffer.compare(payload, this.payloadOf(index)) === 0) right++
    }
    return right
  }
}
