/** All clients of the demo, with their ledgers. */
import type { Random } from '../../fabric/mock/random.js'
import { SessionClient } from './client.js'
import type { ServerAddress } from './connection.js'
import { SessionLedger, type Recovery } from './ledger.js'
import type { Answer } from './protocol.js'

/** Requests a second that all clients make together, about. */
const requestsPerSecond = 2000
const leastThinkMs = 20
/** Time between two clients' first requests, in milliseconds: no server meets all its clients at once. */
const rampStepMs = 1.5
const stopPatienceMs = 2000

export interface FleetOptions {
  readonly servers: readonly ServerAddress[]
  readonly sessions: number
  readonly random: Random
  readonly nowMs: () => number
  /** A session of the failed node is served again: the how-manieth of how many. */
  readonly onServedAgain: (session: string, recovery: Recovery, position: number, count: number) => void
}

export class Fleet {
  readonly ledgers: readonly SessionLedger[]
  readonly #options: FleetOptions
  readonly #clients: readonly SessionClient[]
  #counted: { readonly node: string; refused: number; acknowledged: number } | undefined
  readonly #servedAgain = new Set<SessionLedger>()
  #longestWaitMs = 0

  constructor(options: FleetOptions) {
    this.#options = options
    const { servers, sessions, random, nowMs } = options
    this.ledgers = Array.from({ length: sessions }, (_, i) => new SessionLedger(`s${i}`))
    this.#clients = this.ledgers.map((ledger, i) => {
      const home = i % servers.length
      return new SessionClient({
        servers: [...servers.slice(home), ...servers.slice(0, home)],
        ledger,
        random: random.fork(ledger.session),
        thinkMs: Math.max(leastThinkMs, (sessions / requestsPerSecond) * 1000),
        nowMs,
        onServed: (_, waitedMs) => this.#onServed(ledger, waitedMs),
        onAnswer: (node, answer) => this.#count(node, answer),
      })
    })
  }

  /** The longest that a client of the failed node has waited since. */
  get longestWaitMs(): number {
    return this.#longestWaitMs
  }

  start(): void {
    for (const [i, client] of this.#clients.entries()) client.start(i * rampStepMs)
  }

  /** Has every session been acknowledged so often? */
  haveAll(acknowledged: number): boolean {
    return this.ledgers.every((ledger) => ledger.acknowledged >= acknowledged)
  }

  /** How many requests of each session were acknowledged. */
  acknowledged(): number[] {
    return this.ledgers.map((ledger) => ledger.acknowledged)
  }

  /** Sessions that `node` served last. */
  servedBy(node: string): number {
    return this.ledgers.filter((ledger) => ledger.servedBy === node).length
  }

  /** `node` has failed. @returns the sessions that it served */
  fail(node: string): SessionLedger[] {
    for (const ledger of this.ledgers) ledger.fail(node)
    return this.ledgers.filter((ledger) => ledger.wasOnFailedNode)
  }

  /** Is every session of the failed node served again, or seen to be beyond repair? */
  get areServedAgain(): boolean {
    return this.ledgers.every((ledger, i) => !ledger.wasOnFailedNode || ledger.recovery !== undefined || this.#clients[i]?.hopeless)
  }

  unansweredBy(node: string): number {
    return this.#clients.reduce((sum, client) => sum + client.unansweredBy(node), 0)
  }

  /** Counts from now on what `node` answers. */
  countAnswersOf(node: string): void {
    this.#counted = { node, refused: 0, acknowledged: 0 }
  }

  get countedAnswers(): { readonly refused: number; readonly acknowledged: number } {
    return { refused: this.#counted?.refused ?? 0, acknowledged: this.#counted?.acknowledged ?? 0 }
  }

  async stop(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.stop(stopPatienceMs)))
  }

  close(): void {
    for (const client of this.#clients) client.close()
  }

  #onServed(ledger: SessionLedger, waitedMs: number): void {
    if (!ledger.wasOnFailedNode) return
    this.#longestWaitMs = Math.max(this.#longestWaitMs, waitedMs)
    if (ledger.recovery === undefined || this.#servedAgain.has(ledger)) return
    this.#servedAgain.add(ledger)
    const count = this.ledgers.filter(({ wasOnFailedNode }) => wasOnFailedNode).length
    this.#options.onServedAgain(ledger.session, ledger.recovery, this.#servedAgain.size, count)
  }

  #count(node: string, answer: Answer): void {
    if (this.#counted?.node !== node) return
    if (answer.kind === 'ok') this.#counted.acknowledged++
    else this.#counted.refused++
  }
}
