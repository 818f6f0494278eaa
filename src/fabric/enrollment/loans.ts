/** What is lent to whom, and for how long: longer than a connection that was merely lost. */
import { BackdoorsError } from '../../errors.js'
import type { Closure } from './closure.js'

export interface Loan {
  /** Aborted to take the memory back. */
  readonly lifetime: AbortController
  /** The peer's certificate (DER) at its enrollment. */
  readonly certificate: Uint8Array
}

/**
 * A watcher that has given up on this node's control connection may be reading its memory at this moment, to
 * recover from it: that is the case all of this is for, if this node was only frozen and has woken. So a lost
 * connection ends no loan. There is one loan per peer, so they are as few as the peers.
 */
export class Loans {
  readonly #byPeer = new Map<string, Loan>()

  /** Keeps a loan; one that the peer had before is over. */
  grant(peer: string, loan: Loan): void {
    this.end(peer, `${peer} has enrolled anew`)
    this.#byPeer.set(peer, loan)
  }

  end(peer: string, why: string): void {
    const loan = this.#byPeer.get(peer)
    this.#byPeer.delete(peer)
    loan?.lifetime.abort(new BackdoorsError('CLOSED', `what was lent to ${peer} is taken back: ${why}`, { peer }))
  }

  endWhere(over: (peer: string, loan: Loan) => boolean, why: string): void {
    for (const [peer, loan] of [...this.#byPeer]) if (over(peer, loan)) this.end(peer, why)
  }

  /** The connection of a loan is over; the loan too, unless the connection was lost. */
  onClosed(peer: string, lifetime: AbortController, { reason, detail }: Closure): void {
    if (reason === 'reset' || reason === 'silent') return
    if (this.#byPeer.get(peer)?.lifetime === lifetime) this.end(peer, detail)
  }
}
