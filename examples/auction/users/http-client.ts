/** A user's browser: one connection that is kept, one cookie, and, where it is given patience, requests that are sent again. */
import { Agent, request as httpRequest } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { readBody } from '../http.js'

export interface Address {
  readonly host: string
  readonly port: number
}

/**
 * What a client does about a lost connection or a silent server: it sends the same request again, to the next address of its
 * list, until its patience is over. Times are milliseconds.
 */
export interface Retries {
  readonly silenceMs: number
  readonly patienceMs: number
}

export interface HttpClientOptions {
  /** The front tier alone, or all application nodes. */
  readonly addresses: readonly Address[]
  /** Without: a lost connection is an error, and one connection has to do from first to last. */
  readonly retries?: Retries
}

export interface HttpAnswer {
  readonly status: number
  readonly location: string | undefined
  readonly body: string
  /** From the first sending to the answer, in milliseconds. */
  readonly waitedMs: number
  /** How often it was sent beyond the first time. */
  readonly sentAgain: number
}

/** The server cannot answer this now, or is not the one that can. */
const passing = new Set([421, 502, 503, 504])
const pauseMs = 60
/** Of a connection, before the kernel asks whether the other side still lives. */
const silentMs = 120_000

export class HttpClient {
  readonly #options: HttpClientOptions
  // Node probes a kept connection that is silent for a second, once a second, and gives it up after ten probes: a browser waits far longer.
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1, keepAliveMsecs: silentMs })
  #cookie: string | undefined
  #at = 0
  #connections = 0
  #closed = false

  constructor(options: HttpClientOptions) {
    this.#options = options
  }

  /** Connections made so far. */
  get connections(): number {
    return this.#connections
  }

  get(path: string): Promise<HttpAnswer> {
    return this.#send('GET', path, undefined)
  }

  post(path: string, fields: Readonly<Record<string, string | number>>): Promise<HttpAnswer> {
    return this.#send('POST', path, new URLSearchParams(Object.entries(fields).map(([name, value]): [string, string] => [name, String(value)])).toString())
  }

  close(): void {
    this.#closed = true
    this.#agent.destroy()
  }

  /** @throws Error where no answer came */
  async #send(method: string, path: string, body: string | undefined): Promise<HttpAnswer> {
    const { retries } = this.#options
    const startMs = performance.now()
    for (let sentAgain = 0; ; sentAgain++) {
      let reason: Error
      try {
        const answer = await this.#ask(method, path, body)
        const isPassing = passing.has(answer.status)
        if (!isPassing || retries === undefined) return { ...answer, sentAgain, waitedMs: performance.now() - startMs }
        reason = new Error(`status ${answer.status}`)
      } catch (error) {
        reason = error as Error
        if (retries === undefined) throw reason
      }
      if (this.#closed || performance.now() - startMs > retries.patienceMs) throw new Error(`no answer to ${method} ${path} within ${retries.patienceMs} ms: ${reason.message}`)
      this.#at = (this.#at + 1) % this.#options.addresses.length
      await sleep(pauseMs)
    }
  }

  #ask(method: string, path: string, body: string | undefined): Promise<Pick<HttpAnswer, 'status' | 'location' | 'body'>> {
    const { host, port } = this.#options.addresses[this.#at] as Address
    const headers = { ...(this.#cookie ? { cookie: this.#cookie } : {}), ...(body === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded', 'content-length': Buffer.byteLength(body) }) }
    return new Promise((resolve, reject) => {
      const request = httpRequest({ agent: this.#agent, host, port, method, path, headers })
      const silenceMs = this.#options.retries?.silenceMs
      const timer = silenceMs === undefined ? undefined : setTimeout(() => request.destroy(new Error(`silent for ${silenceMs} ms`)), silenceMs)
      request.once('socket', (socket) => {
        if (socket.connecting) this.#connections++
      })
      request.once('error', reject)
      request.once('close', () => clearTimeout(timer))
      request.once('response', (response) => {
        const [set] = response.headers['set-cookie'] ?? []
        void readBody(response).then((content) => {
          if (content === undefined) return reject(new Error('the answer was cut short'))
          if (set !== undefined) this.#cookie = set.split(';')[0]
          resolve({ status: response.statusCode ?? 0, location: response.headers.location, body: content.toString('utf8') })
        })
      })
      request.end(body)
    })
  }
}
