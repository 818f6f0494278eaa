/**
 * What one client knows of its session: everything it asked for, everything it was acknowledged, and by whom.
 * The demo is judged from these ledgers alone, never from what a recovery says of itself.
 */
import { digestOf, type SessionState } from './protocol.js'

export const violations = ['lost', 'servedTwice', 'invented'] as const
/**
 * `lost`: something acknowledged is not there any more. `servedTwice`: two nodes served the session, each on its
 * own. `invented`: a state came back that the client's requests do not lead to.
 */
export type Violation = (typeof violations)[number]

export interface Finding {
  readonly violation: Violation
  readonly what: string
}

interface Entry {
  readonly text: string
  /** Of the history up to here, as acknowledged. */
  digest: string | undefined
  /** Whoever acknowledged it, in order. */
  readonly servedBy: string[]
}

/** A server's answer when it is asked, at the end, what it has of a session. */
export interface Holder {
  readonly node: string
  readonly state: SessionState | { readonly broken: string }
}

/** Who served a session first after its node had failed, and when. */
export interface Recovery {
  readonly by: string
  /** CLOCK_MONOTONIC in milliseconds. */
  readonly atMs: number
}

export class SessionLedger {
  readonly findings: Finding[] = []
  #session: string
  #entries: Entry[] = []
  #acknowledged = 0
  #repeated = 0
  #servedBy: string | undefined
  #failedNode: string | undefined
  #recovery: Recovery | undefined

  constructor(session: string) {
    this.#session = session
  }

  get session(): string {
    return this.#session
  }

  /** Requests that were acknowledged; the next one has the number after it, or is under way. */
  get acknowledged(): number {
    return this.#acknowledged
  }

  /** Acknowledgements of what had been acknowledged before, to the letter: answers that came late or twice. */
  get repeated(): number {
    return this.#repeated
  }

  /** The node that acknowledged its newest request. */
  get servedBy(): string | undefined {
    return this.#servedBy
  }

  /** Was it last served by the node that failed, when that failed? */
  get wasOnFailedNode(): boolean {
    return this.#failedNode !== undefined
  }

  get recovery(): Recovery | undefined {
    return this.#recovery
  }

  has(violation: Violation): boolean {
    return this.findings.some((finding) => finding.violation === violation)
  }

  /** The client asks for its next request to be applied. @returns its number */
  ask(text: string): number {
    return this.#entries.push({ text, digest: undefined, servedBy: [] })
  }

  /**
   * The client gives its session up before anything of it was acknowledged, and makes another: where the server
   * that was to make it is gone, nobody can tell whether it did.
   */
  startAnew(session: string): void {
    if (this.#acknowledged > 0) throw new Error(`Session ${this.#session} has been acknowledged, and cannot be given up.`)
    this.#session = session
    this.#entries = []
  }

  /** `node` has failed: is this session one of those to be recovered? */
  fail(node: string): void {
    if (this.#servedBy === node) this.#failedNode = node
  }

  /** `node` says that the session's state is now this. */
  acknowledge(node: string, state: SessionState, atMs: number): void {
    const fault = this.#faultOf(state)
    if (fault !== undefined) return this.#find('invented', `${node} answered with ${fault}`)
    const entry = this.#entries[state.n - 1] as Entry
    entry.servedBy.push(node)
    if (entry.digest !== undefined) {
      if (entry.digest === state.digest) this.#repeated++
      // The same request, applied in two places: from here on there are two histories.
      else this.#find('servedTwice', `request ${state.n} was applied by two: acknowledged by ${entry.servedBy.join(', then ')}`)
      return
    }
    entry.digest = state.digest
    this.#acknowledged = state.n
    this.#servedBy = node
    if (this.#failedNode !== undefined && node !== this.#failedNode) this.#recovery ??= { by: node, atMs }
  }

  /** `node` does not apply the request under way, for it has the session at `n`. */
  refuse(node: string, n: number): void {
    if (n < this.#acknowledged) this.#find('lost', `${node} has it at ${n}, and ${this.#acknowledged} was acknowledged`)
    else this.#find('invented', `${node} has it at ${n}, and only ${this.#entries.length} was asked for`)
  }

  /** `node` has the session, and cannot use it. */
  broken(node: string, code: string): void {
    this.#find('invented', `${node} has bytes that are no state of it (${code})`)
  }

  /** Every living server was asked, after the last request, what it has. */
  audit(holders: readonly Holder[]): void {
    if (this.#acknowledged > 0 && holders.length === 0) return this.#find('lost', 'nobody has it')
    if (holders.length > 1) this.#find('servedTwice', `${holders.map(({ node }) => node).join(' and ')} both serve it`)
    let newest = 0
    for (const { node, state } of holders) {
      if ('broken' in state) {
        this.broken(node, state.broken)
        continue
      }
      newest = Math.max(newest, state.n)
      const fault = this.#faultOf(state)
      if (fault !== undefined) this.#find('invented', `${node} has ${fault}`)
      else if (state.n === this.#acknowledged && state.digest !== this.#entries[state.n - 1]?.digest) this.#find('servedTwice', `${node} has another history of it`)
    }
    if (newest < this.#acknowledged) this.#find('lost', `the newest state there is ${newest}, and ${this.#acknowledged} was acknowledged`)
  }

  /** What is wrong with a state that should be one that this client's requests led to. */
  #faultOf({ n, digest, by, text }: SessionState): string | undefined {
    const entry = this.#entries[n - 1]
    if (entry === undefined) return `state ${n}, and only ${this.#entries.length} was asked for`
    if (entry.text !== text) return `state ${n} of other content than request ${n} had`
    const before = n === 1 ? '' : this.#entries[n - 2]?.digest
    if (before === undefined || digest !== digestOf(before, n, text, by)) return `state ${n} that does not continue what was acknowledged`
    return undefined
  }

  #find(violation: Violation, what: string): void {
    this.findings.push({ violation, what: `session ${this.#session}: ${what}` })
  }
}
