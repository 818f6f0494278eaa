/** The daemon's page for people: the cluster as this node sees it, live. It only ever shows; nothing can be done by it. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { isIPv6, type AddressInfo } from 'node:net'
import { asBackdoorsError, BackdoorsError } from '../../errors.js'
import type { DaemonStatus } from '../status.js'
import { loadAssets, type Asset } from './assets.js'
import { EventStream } from './event-stream.js'
import { isOwnHost } from './host-check.js'

const maxViewers = 16
const maxConnections = 64
/** Between two frames, in milliseconds. A verdict, or a step of a recovery, is sent at once. */
const frameEveryMs = 500

/** No script, style or image but this page's own, nothing sent elsewhere, no frame around it, no answer for another origin. */
const headers = {
  'content-security-policy': "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-store',
} as const

class Refusal extends BackdoorsError {
  readonly status: number

  constructor(status: number, code: 'PROTOCOL_ERROR' | 'QUEUE_FULL', message: string) {
    super(code, message)
    this.status = status
  }
}

export interface StatusPageSource {
  readonly status: () => DaemonStatus
  /** Changes whenever incidents or history do. */
  readonly revision: () => number
}

export class StatusPage {
  readonly #host: string
  readonly #source: StatusPageSource
  readonly #assets: ReadonlyMap<string, Asset> = loadAssets()
  readonly #stream: EventStream
  readonly #server: Server
  #port = 0
  #sentRevision = -1

  private constructor(host: string, source: StatusPageSource) {
    this.#host = host
    this.#source = source
    this.#stream = new EventStream({ maxClients: maxViewers, everyMs: frameEveryMs, frame: (whole) => this.#frame(whole) })
    this.#server = createServer({ maxHeaderSize: 8192, requestTimeout: 10_000, headersTimeout: 5000 }, (request, response) => this.#serve(request, response))
    this.#server.maxConnections = maxConnections
  }

  /**
   * Serves from now on.
   * @param at port 0: any that is free; see `url`
   * @throws BackdoorsError SYSTEM_CALL_FAILED
   */
  static async open(at: { readonly host: string; readonly port: number }, source: StatusPageSource): Promise<StatusPage> {
    const page = new StatusPage(at.host, source)
    await page.#listen(at.port)
    return page
  }

  get url(): string {
    return `http://${isIPv6(this.#host) ? `[${this.#host}]` : this.#host}:${this.#port}/`
  }

  /** Something has happened that nobody should wait for. */
  refresh(): void {
    this.#stream.refresh()
  }

  /** What has happened is long, and told again only when there is more of it. */
  #frame(whole: boolean): Record<string, unknown> {
    const revision = this.#source.revision()
    const { incidents, history, ...status } = this.#source.status()
    const hasChanged = revision !== this.#sentRevision
    if (!whole) this.#sentRevision = revision
    return whole || hasChanged ? { status, past: { incidents, history } } : { status }
  }

  async close(): Promise<void> {
    this.#stream.close()
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  async #listen(port: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (error) => reject(asBackdoorsError(error, 'SYSTEM_CALL_FAILED', `Cannot serve the status page on ${this.#host}:${port}`)))
      this.#server.listen(port, this.#host, resolve)
    })
    this.#port = (this.#server.address() as AddressInfo).port
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value)
    try {
      this.#check(request)
      this.#answer(new URL(request.url ?? '/', 'http://localhost').pathname, response)
    } catch (thrown) {
      const error = asBackdoorsError(thrown, 'PROTOCOL_ERROR', 'The request could not be answered')
      const status = error instanceof Refusal ? error.status : 400
      response.writeHead(status, { 'content-type': 'application/json', ...(status === 405 ? { allow: 'GET' } : {}), ...(status === 503 ? { 'retry-after': '5' } : {}) })
      response.end(`${JSON.stringify({ error: { code: error.code, message: error.message } })}\n`)
    }
  }

  /** @throws Refusal */
  #check({ method, headers: { host, 'sec-fetch-site': site, 'sec-fetch-mode': mode } }: IncomingMessage): void {
    if (!isOwnHost(host, this.#host)) throw new Refusal(421, 'PROTOCOL_ERROR', 'This page is not served under that name: ask for it by the host of its configuration, or by a loopback name.')
    if (method !== 'GET') throw new Refusal(405, 'PROTOCOL_ERROR', 'This page can only be looked at: GET is all that it answers.')
    // A link from elsewhere may lead here; a page from elsewhere may not use this one.
    if (site === 'cross-site' && mode !== 'navigate') throw new Refusal(403, 'PROTOCOL_ERROR', 'Other sites get nothing from this page.')
  }

  #answer(path: string, response: ServerResponse): void {
    const asset = this.#assets.get(path)
    if (asset) response.writeHead(200, { 'content-type': asset.type }).end(asset.bytes)
    else if (path === '/status.json') response.writeHead(200, { 'content-type': 'application/json; charset=utf-8' }).end(`${JSON.stringify(this.#source.status())}\n`)
    else if (path === '/events') this.#follow(response)
    else throw new Refusal(404, 'PROTOCOL_ERROR', 'There is "/", "/status.json" and "/events", and nothing else.')
  }

  #follow(response: ServerResponse): void {
    if (this.#stream.isFull) throw new Refusal(503, 'QUEUE_FULL', `${maxViewers} are looking at this page already: close one of them.`)
    this.#stream.add(response)
  }
}
