/** What the simulation knows of every session, and holds the cluster to: the invariants that must be true at every instant. */
import type { RegionLife } from './region-life.js'
import { valueOf } from './payload.js'

export const invariants = ['lost', 'served-twice', 'acknowledged-after-fence', 'never-committed', 'no-evidence', 'plan', 'crashed'] as const
export type Invariant = (typeof invariants)[number]

export interface Violation {
  readonly invariant: Invariant
  readonly what: string
  readonly atUs: number
}

/** A server's box, as far as it matters who serves. */
export interface Holder {
  readonly name: string
  readonly life: RegionLife
  readonly box: number
  readonly generation: number
  /** Does a process stand behind it that could answer a client, now or once it goes on? */
  readonly alive: boolean
  holds(id: string): boolean
}

export interface SessionTruth {
  readonly id: string
  /** The highest value that any server tried to commit, and that any acknowledged. */
  tried: number
  acknowledged: number
  /** Whose memory it is that a failure would have to be recovered from. */
  home: RegionLife
  box: number
  /** Bits of its home have rotted: what is lost by that is not held against anybody. */
  damaged: boolean
}

export class Ledger {
  readonly sessions = new Map<string, SessionTruth>()
  readonly violations: Violation[] = []
  readonly #nowUs: () => number
  readonly #holders: () => readonly Holder[]

  constructor(nowUs: () => number, holders: () => readonly Holder[]) {
    this.#nowUs = nowUs
    this.#holders = holders
  }

  begin(id: string, home: RegionLife, box: number): void {
    this.sessions.set(id, { id, tried: 1, acknowledged: 1, home, box, damaged: false })
  }

  truthOf(id: string): SessionTruth {
    const truth = this.sessions.get(id)
    if (truth === undefined) throw new Error(`no session ${id} was ever begun`)
    return truth
  }

  violate(invariant: Invariant, what: string): void {
    this.violations.push({ invariant, what, atUs: this.#nowUs() })
  }

  trying(id: string, value: number): void {
    const truth = this.truthOf(id)
    truth.tried = Math.max(truth.tried, value)
  }

  /** A server's commit has returned: its client is told so. */
  acknowledged(id: string, value: number, by: Holder): void {
    const truth = this.truthOf(id)
    if (by.life.isFenced(by.box, by.generation)) this.violate('acknowledged-after-fence', `${by.name} acknowledged ${id} = ${value}, and its fence had been raised`)
    truth.acknowledged = Math.max(truth.acknowledged, value)
    this.movedTo(id, value, by)
  }

  /** A server serves this state to a client, or has taken it over. @returns its value, if it is one */
  served(id: string, payload: Uint8Array, by: Holder): number | undefined {
    const truth = this.sessions.get(id)
    const value = valueOf(id, payload)
    if (truth === undefined || value === undefined || value < 1 || value > truth.tried) {
      this.violate('never-committed', `${by.name} serves ${id} as ${value === undefined ? 'bytes that nobody wrote' : `${value}, and no more than ${truth?.tried ?? 0} was ever tried`}`)
      return undefined
    }
    // A server that has been fenced and does not know it yet may show what it has; it cannot commit.
    if (value < truth.acknowledged && !truth.damaged && !by.life.isFenced(by.box, by.generation)) this.violate('lost', `${by.name} serves ${id} as ${value}, and ${truth.acknowledged} had been acknowledged`)
    return value
  }

  /** The newest acknowledged state stands there now, and whoever was there before is not asked for it any more. */
  movedTo(id: string, value: number, where: { readonly life: RegionLife; readonly box: number }): void {
    const truth = this.truthOf(id)
    if (value < truth.acknowledged || where.life.lost) return
    truth.home = where.life
    truth.box = where.box
  }

  /** To be called whenever a server has come to hold a session. */
  checkHolders(id: string): void {
    const serving = this.#holders().filter((holder) => holder.alive && holder.holds(id) && !holder.life.isFenced(holder.box, holder.generation))
    if (serving.length > 1) this.violate('served-twice', `${id} is served by ${serving.map(({ name }) => name).join(' and ')}, and neither is fenced`)
  }
}
