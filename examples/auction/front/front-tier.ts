/**
 * The front tier: forwards each request to the node that has its visit. When that does not answer, the others are asked, and
 * again, until one has the visit: the request is the same one, and a form's key says so to whoever runs it.
 */
import { Agent, createServer, request as httpRequest, type IncomingHttpHeaders, type IncomingMessage, type OutgoingHttpHeaders, type Server, type ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { visitIn } from '../application/router.js'
import { readBody } from '../http.js'

export interface ApplicationNode {
  readonly node: string
  readonly host: string
  readonly port: number
}

export interface FrontTierOptions {
  readonly nodes: readonly ApplicationNode[]
  /** A node that has not answered for so long is left for another, in milliseconds. Default 1000. */
  readonly silenceMs?: number
  /** A visit that nobody has is looked for so long, in milliseconds: it may be on its way. Default 10,000. */
  readonly patienceMs?: number
  /** A visit's node has changed. */
  readonly onMoved?: (visit: string, node: string) => void
}

interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
}

/** A request as it is sent, as often as it needs to be. */
interface Forwarded {
  readonly method: string
  readonly path: string
  readonly headers: OutgoingHttpHeaders
  readonly body: Buffer
}

/** Those that say nothing of a connection. */
const forwardedHeaders = ['cookie', 'content-type', 'accept', 'user-agent', 'if-none-match'] as const
const returnedHeaders = ['content-type', 'location', 'set-cookie', 'cache-control', 'retry-after'] as const
const misdirected = 421
const unavailable = 503
/** Between two rounds of asking all nodes, in milliseconds. */
const pauseMs = 40
/** A node that did not answer is asked last for so long, in milliseconds. */
const avoidMs = 2000
const idleMs = 600_000
/** Visits whose nodes are remembered. */
const mostKnown = 50_000

export class FrontTier {
  readonly server: Server
  readonly #options: Required<Pick<FrontTierOptions, 'silenceMs' | 'patienceMs'>> & FrontTierOptions
  readonly #agents: ReadonlyMap<string, Agent>
  /** Visits that have left the node that made them. */
  readonly #moved = new Map<string, string>()
  readonly #avoided = new Map<string, number>()
  #next = 0
  #sentAgain = 0

  constructor(options: FrontTierOptions) {
    this.#options = { silenceMs: 1000, patienceMs: 10_000, ...options }
    this.#agents = new Map(options.nodes.map(({ node }) => [node, new Agent({ keepAlive: true, maxFreeSockets: 64 })]))
    this.server = createServer({ keepAliveTimeout: idleMs, noDelay: true }, (request, response) => void this.#serve(request, response))
  }

  /** Requests that a second node was asked. */
  get sentAgain(): number {
    return this.#sentAgain
  }

  close(): void {
    for (const agent of this.#agents.values()) agent.destroy()
    this.server.close()
    this.server.closeAllConnections()
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await readBody(request)
    if (body === undefined) return void request.destroy()
    const headers = Object.fromEntries(forwardedHeaders.flatMap((name) => (request.headers[name] === undefined ? [] : [[name, request.headers[name]]])))
    const forwarded = { method: request.method ?? 'GET', path: request.url ?? '/', headers: { ...headers, 'content-length': body.length }, body }
    const answer = await this.#forward(forwarded, visitIn(request.headers.cookie ?? ''))
    if (response.destroyed) return
    const returned = Object.fromEntries(returnedHeaders.flatMap((name) => (answer.headers[name] === undefined ? [] : [[name, answer.headers[name]]])))
    response.writeHead(answer.status, { ...returned, 'content-length': answer.body.length }).end(answer.body)
  }

  async #forward(request: Forwarded, visit: string | undefined): Promise<Answer> {
    const { patienceMs } = this.#options
    const deadlineMs = performance.now() + patienceMs
    let asked = 0
    let isAnswered = false
    do {
      for (const node of this.#candidates(visit)) {
        if (asked++ === 1) this.#sentAgain++
        const answer = await this.#ask(node, request)
        if (answer === undefined) {
          this.#avoided.set(node.node, performance.now() + avoidMs)
          continue
        }
        isAnswered = true
        if (answer.status === misdirected || answer.status === unavailable) continue
        if (visit !== undefined) this.#remember(visit, node.node)
        return answer
      }
      await sleep(pauseMs)
    } while (performance.now() < deadlineMs)
    if (visit === undefined || !isAnswered) return { status: unavailable, headers: { 'content-type': 'text/plain', 'retry-after': '1' }, body: Buffer.from('No application node answers.\n') }
    // It has ended, or has never been: its visitor begins another.
    const { cookie: _, ...headers } = request.headers
    return this.#forward({ ...request, method: 'GET', path: '/', headers: { ...headers, 'content-length': 0 }, body: Buffer.alloc(0) }, undefined)
  }

  /** The node that has the visit first; a new visit begins at each node in turn. */
  #candidates(visit: string | undefined): readonly ApplicationNode[] {
    const { nodes } = this.#options
    const home = visit === undefined ? undefined : (this.#moved.get(visit) ?? visit.split('~')[0])
    const at = nodes.findIndex(({ node }) => node === home)
    const first = at >= 0 ? at : this.#next++ % nodes.length
    const order = [...nodes.slice(first), ...nodes.slice(0, first)]
    const now = performance.now()
    const isFit = ({ node }: ApplicationNode): boolean => (this.#avoided.get(node) ?? 0) <= now
    return [...order.filter(isFit), ...order.filter((node) => !isFit(node))]
  }

  #remember(visit: string, node: string): void {
    const before = this.#moved.get(visit) ?? visit.split('~')[0]
    if (before === node) return
    this.#moved.delete(visit)
    this.#moved.set(visit, node)
    // The oldest are forgotten: they are looked for again if they come.
    for (const oldest of this.#moved.keys()) {
      if (this.#moved.size <= mostKnown) break
      this.#moved.delete(oldest)
    }
    this.#options.onMoved?.(visit, node)
  }

  /** @returns undefined where the node does not answer */
  #ask({ node, host, port }: ApplicationNode, { method, path, headers, body }: Forwarded): Promise<Answer | undefined> {
    return new Promise((resolve) => {
      const asked = httpRequest({ agent: this.#agents.get(node) as Agent, host, port, method, path, headers })
      const finish = (answer: Answer | undefined): void => {
        clearTimeout(timer)
        resolve(answer)
        if (answer === undefined) asked.destroy()
      }
      const timer = setTimeout(() => finish(undefined), this.#options.silenceMs)
      asked.once('error', () => finish(undefined))
      asked.once('response', (response) => void readBody(response).then((content) => finish(content && { status: response.statusCode ?? 500, headers: response.headers, body: content })))
      asked.end(body)
    })
  }
}
