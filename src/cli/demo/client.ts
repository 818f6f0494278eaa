/** One client with one session: a request at a time, asked of the other nodes where its own does not answer. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Random } from '../../fabric/mock/random.js'
import { Connection, type ServerAddress } from './connection.js'
import type { SessionLedger } from './ledger.js'
import type { Answer, Request } from './protocol.js'
import { shuffled } from './shuffled.js'

export type { ServerAddress }

export interface ClientOptions {
  /** The node where the session is made comes first. */
  readonly servers: readonly ServerAddress[]
  readonly ledger: SessionLedger
  readonly random: Random
  /** Mean time between an answer and the next request, in milliseconds. */
  readonly thinkMs: number
  /** A server that has not answered for so long is left for another, in milliseconds. Default 250. */
  readonly silenceMs?: number
  readonly nowMs: () => number
  /** A request was acknowledged by `node`, so long after it was first sent. */
  readonly onServed: (node: string, waitedMs: number) => void
  /** An answer came, in time or late. */
  readonly onAnswer?: (node: string, answer: Answer) => void
}

const defaultSilenceMs = 250
/** A server that was silent, fenced or gone is asked last for so long, in milliseconds. */
const avoidMs = 1000
/** Pause after all servers were asked in vain, doubled up to the last, in milliseconds. */
const firstPauseMs = 20
const lastPauseMs = 100
const textLetters = 96

type Outcome = Answer | { readonly kind: 'silent' } | { readonly kind: 'closed' }

interface Waiting {
  readonly id: number
  readonly settle: (outcome: Outcome) => void
}

export class SessionClient {
  readonly #options: ClientOptions
  readonly #connections = new Map<string, Connection>()
  /** Requests without an answer, by id, and the connection that may still bring one. */
  readonly #unanswered = new Map<number, Connection>()
  readonly #avoided = new Map<string, number>()
  readonly #stop = new AbortController()
  #server: ServerAddress
  #waiting: Waiting | undefined
  #running: Promise<void> | undefined
  #nextId = 1
  #hopeless = false
  /** Sessions given up because it is not known whether they were made. */
  #givenUp = 0

  constructor(options: ClientOptions) {
    this.#options = options
    this.#server = options.servers[0] as ServerAddress
  }

  /** Has an answer shown that this session is beyond repair? */
  get hopeless(): boolean {
    return this.#hopeless
  }

  /** Requests on their way to `node`, or at it, to which it may still answer. */
  unansweredBy(node: string): number {
    let count = 0
    for (const connection of this.#unanswered.values()) if (connection.node === node) count++
    return count
  }

  /** @param afterMs the first request is sent so late */
  start(afterMs: number): void {
    this.#running ??= this.#run(afterMs)
  }

  /** Ends after the request under way, or after `patienceMs` without an answer to it. Connections stay, for late answers. */
  async stop(patienceMs: number): Promise<void> {
    const timer = setTimeout(() => {
      this.#hopeless = true
      this.#waiting?.settle({ kind: 'silent' })
    }, patienceMs)
    this.#stop.abort()
    await this.#running
    clearTimeout(timer)
  }

  /** Gives up at once. Idempotent. */
  close(): void {
    this.#hopeless = true
    this.#stop.abort()
    this.#waiting?.settle({ kind: 'silent' })
    for (const connection of this.#connections.values()) connection.close()
  }

  async #run(afterMs: number): Promise<void> {
    const { thinkMs, random } = this.#options
    let pauseMs = afterMs
    while (!this.#hopeless && (await this.#pause(pauseMs))) {
      await this.#request()
      pauseMs = thinkMs * (0.5 + random.float())
    }
  }

  /** @returns false where the client shall stop */
  async #pause(ms: number): Promise<boolean> {
    const { signal } = this.#stop
    await sleep(ms, undefined, { signal }).catch(() => undefined)
    return !signal.aborted
  }

  async #request(): Promise<void> {
    const { ledger, nowMs, onServed } = this.#options
    const text = this.#text()
    let n = ledger.ask(text)
    const askedAtMs = nowMs()
    let pauseMs = firstPauseMs
    while (!this.#hopeless) {
      for (const server of this.#candidates(n)) {
        const id = this.#nextId++
        const outcome = await this.#ask(server, { kind: 'apply', id, session: ledger.session, n, text, open: n === 1 })
        if (this.#take(server, outcome)) {
          if (outcome.kind === 'ok') onServed(server.node, nowMs() - askedAtMs)
          return
        }
        // An answer that came too late to be waited for is one all the same.
        if (this.#hopeless || ledger.acknowledged >= n) return
        if (n === 1 && (outcome.kind === 'closed' || outcome.kind === 'fenced')) n = this.#startAnew(text)
      }
      await sleep(pauseMs * (0.5 + this.#options.random.float()))
      pauseMs = Math.min(pauseMs * 2, lastPauseMs)
    }
  }

  /** @returns whether that was the end of this request */
  #take(server: ServerAddress, outcome: Outcome): boolean {
    const { ledger, nowMs } = this.#options
    const { node } = server
    switch (outcome.kind) {
      case 'ok':
        ledger.acknowledge(node, outcome.state, nowMs())
        this.#server = server
        this.#hopeless ||= ledger.findings.length > 0
        return true
      case 'refused':
        ledger.refuse(node, outcome.n)
        this.#hopeless = true
        return true
      case 'broken':
        ledger.broken(node, outcome.code)
        this.#hopeless = true
        return true
      case 'unknown':
        return false
      default:
        this.#avoided.set(node, nowMs() + avoidMs)
        return false
    }
  }

  #startAnew(text: string): number {
    const { ledger } = this.#options
    // Nothing late shall be taken for the new session's.
    for (const connection of this.#connections.values()) connection.close()
    this.#connections.clear()
    ledger.startAnew(`${ledger.session.replace(/\..*/, '')}.${++this.#givenUp}`)
    return ledger.ask(text)
  }

  /** The server that has the session first, then the others; a session that is not made yet is made at one place only. */
  #candidates(n: number): readonly ServerAddress[] {
    if (n === 1) return [this.#server]
    const { servers, random, nowMs } = this.#options
    const others = shuffled(random, servers.filter((server) => server !== this.#server))
    const all = [this.#server, ...others]
    const fit = all.filter(({ node }) => (this.#avoided.get(node) ?? 0) <= nowMs())
    return fit.length > 0 ? fit : all
  }

  #ask(server: ServerAddress, request: Request): Promise<Outcome> {
    const connection = this.#connectionTo(server)
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#waiting?.settle({ kind: 'silent' }), this.#options.silenceMs ?? defaultSilenceMs)
      this.#waiting = {
        id: request.id,
        settle: (outcome) => {
          clearTimeout(timer)
          this.#waiting = undefined
          resolve(outcome)
        },
      }
      this.#unanswered.set(request.id, connection)
      connection.send(request)
    })
  }

  #connectionTo(server: ServerAddress): Connection {
    const { node } = server
    const known = this.#connections.get(node)
    if (known && !known.closed) return known
    const connection: Connection = new Connection(server, (answer) => this.#onAnswer(node, answer), () => this.#onClose(connection))
    this.#connections.set(node, connection)
    return connection
  }

  #onAnswer(node: string, answer: Answer): void {
    this.#unanswered.delete(answer.id)
    this.#options.onAnswer?.(node, answer)
    if (this.#waiting?.id === answer.id) return this.#waiting.settle(answer)
    // Too late to be waited for, but it was said: what it acknowledges counts.
    if (answer.kind === 'ok') this.#options.ledger.acknowledge(node, answer.state, this.#options.nowMs())
  }

  #onClose(closed: Connection): void {
    for (const [id, connection] of this.#unanswered) {
      if (connection !== closed) continue
      this.#unanswered.delete(id)
      if (this.#waiting?.id === id) this.#waiting.settle({ kind: 'closed' })
    }
  }

  #text(): string {
    const { random } = this.#options
    let text = ''
    while (text.length < textLetters) text += random.uint32().toString(36)
    return text.slice(0, textLetters)
  }
}
