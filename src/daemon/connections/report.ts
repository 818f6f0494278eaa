import type { ResetReason } from '../../recovery/tcp/connection.js'

/** What became of the client connections of a failed host, and how long each part took. */
export interface ConnectionsReport {
  readonly peer: string
  /** In the dead kernel, to addresses that were taken over here. */
  readonly found: number
  /** An earlier run of the same recovery has gone on with them, or has told why not: they were left as they are. */
  readonly known: number
  /** Their servers go on with them, on this machine. */
  readonly continued: number
  /** The others, by why. */
  readonly reset: Readonly<Partial<Record<ResetReason, number>>>
  /** In milliseconds: reading them out of the dead kernel; making sockets of them; taking their addresses; until their servers had answered. */
  readonly ms: { readonly read: number; readonly restore: number; readonly address: number; readonly answer: number }
}

/** Counts outcomes, one for each connection. */
export class Outcomes {
  #continued = 0
  readonly #reset: Partial<Record<ResetReason, number>> = {}

  add(reset: ResetReason | undefined): void {
    if (reset === undefined) this.#continued++
    else this.#reset[reset] = (this.#reset[reset] ?? 0) + 1
  }

  /** How many have been added. */
  get total(): number {
    return Object.values(this.#reset).reduce((sum, count) => sum + count, this.#continued)
  }

  get counts(): Pick<ConnectionsReport, 'continued' | 'reset'> {
    return { continued: this.#continued, reset: { ...this.#reset } }
  }
}
