/**
 * etcd v3, spoken to by its JSON gateway (`/v3/…`, etcd 3.4 and later): HTTP POST with the fields of its protocol buffers, bytes in base64 and
 * 64-bit integers as text. https://etcd.io/docs/latest/dev-guide/api_grpc_gateway/ describes it.
 *
 * What etcd answers is as hostile as what a peer says: lengths are limited, and all is checked before it is used.
 */
import { readFileSync } from 'node:fs'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { StringDecoder } from 'node:string_decoder'
import { z } from 'zod'
import { asBackdoorsError, BackdoorsError, isBackdoorsError } from '../../errors.js'
import type { EtcdConfig } from './membership-config.js'

/** How long one endpoint may take to answer a call, in milliseconds. */
const defaultTimeoutMs = 3000
/** No answer that is meant is longer: 4096 keys with the longest records there may be. In bytes. */
const maxAnswerBytes = 16 << 20
/** No message of a watch is longer, in bytes. */
const maxMessageBytes = 4 << 20
/** A connection that says nothing is asked by the kernel whether it still stands, in milliseconds. */
const keepAliveMs = 10_000

/** 64-bit integers come as text; where they are 0 they do not come at all. */
export const int64 = z.union([z.string().regex(/^-?\d{1,19}$/), z.number().int()]).transform((value) => BigInt(value)).default(0n)
/** A schema for every answer: fields that are not asked for are ignored, as newer releases of etcd have more. */
const failure = z.object({ error: z.union([z.string(), z.object({ message: z.string().default('') })]).optional(), message: z.string().optional(), code: z.number().optional() })

/** gRPC codes that a call may meet with success elsewhere, or later: the member has no leader, is stopping, or is overloaded. */
const transientCodes = new Set([4, 14])

export interface EtcdGatewayOptions {
  readonly timeoutMs?: number
}

export class EtcdGateway {
  readonly #endpoints: readonly URL[]
  readonly #tls: EtcdConfig['tls']
  readonly #timeoutMs: number
  /** The endpoint that answered last. */
  #at = 0

  constructor({ endpoints, tls }: Pick<EtcdConfig, 'endpoints' | 'tls'>, { timeoutMs = defaultTimeoutMs }: EtcdGatewayOptions = {}) {
    this.#endpoints = endpoints.map((each) => new URL(each))
    this.#tls = tls
    this.#timeoutMs = timeoutMs
  }

  /**
   * One call, at the first endpoint that answers: what one answers, it answers for its whole cluster.
   * @throws BackdoorsError ETCD_UNAVAILABLE where none does, ETCD_REFUSED where one refuses, PROTOCOL_ERROR and MESSAGE_TOO_LARGE for answers
   *   that cannot be meant, CLOSED when aborted
   */
  async call<T>(path: string, body: object, schema: z.ZodType<T>, signal: AbortSignal): Promise<T> {
    for (let tried = 1; ; tried++) {
      try {
        return await this.#atCurrent(signal, async (endpoint, deadline) => {
          const response = await this.#post(endpoint, path, body, deadline.signal)
          const text = await readAll(response, endpoint)
          if (response.statusCode !== 200) throw refusalOf(response, text, endpoint)
          return parse(schema, text, endpoint)
        })
      } catch (error) {
        if (tried === this.#endpoints.length || isBackdoorsError(error, 'ETCD_REFUSED', 'CLOSED')) throw error
      }
    }
  }

  /**
   * Watches a range of keys until the stream ends, which is an error unless `onMessage` returns false. The next watch is at the next endpoint;
   * it is for the caller to find out what happened in between.
   * @throws BackdoorsError as `call`; what `onMessage` throws
   */
  async watch(body: object, onMessage: (message: unknown) => boolean, signal: AbortSignal): Promise<void> {
    await this.#atCurrent(signal, async (endpoint, deadline) => {
      const response = await this.#post(endpoint, '/v3/watch', body, deadline.signal)
      if (response.statusCode !== 200) throw refusalOf(response, await readAll(response, endpoint), endpoint)
      // It stands now, and may be silent for as long as nothing changes.
      deadline.cancel()
      response.socket.setKeepAlive(true, keepAliveMs)
      for await (const line of linesOf(response, endpoint)) if (!onMessage(parse(z.unknown(), line, endpoint))) return
      throw new BackdoorsError('ETCD_UNAVAILABLE', `etcd at ${endpoint.host} has ended the watch.`, { path: endpoint.host })
    })
  }

  /** Where the endpoint is at fault, the next one is next. */
  async #atCurrent<T>(signal: AbortSignal, run: (endpoint: URL, deadline: Deadline) => Promise<T>): Promise<T> {
    const at = this.#at
    const endpoint = this.#endpoints[at] as URL
    const deadline = new Deadline(signal, this.#timeoutMs)
    try {
      return await run(endpoint, deadline)
    } catch (error) {
      if (signal.aborted) throw new BackdoorsError('CLOSED', 'etcd is not asked any more', { path: endpoint.host })
      const why = deadline.signal.aborted ? new Error(`nothing within ${this.#timeoutMs} ms`) : error
      const fault = asBackdoorsError(why, 'ETCD_UNAVAILABLE', `etcd at ${endpoint.host} does not answer`, { path: endpoint.host })
      // Two calls that fail at one endpoint must not go past the next.
      if (fault.code !== 'ETCD_REFUSED' && this.#at === at) this.#at = (at + 1) % this.#endpoints.length
      throw fault
    } finally {
      deadline.end()
    }
  }

  /** A connection for each call: they are few, and certificates are taken up as they are rotated. */
  async #post(endpoint: URL, path: string, body: object, signal: AbortSignal): Promise<IncomingMessage> {
    const text = JSON.stringify(body)
    const isTls = endpoint.protocol === 'https:'
    const options = {
      method: 'POST', agent: false, signal, headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) },
      ...(isTls ? { minVersion: 'TLSv1.2' as const, ...filesOf(this.#tls) } : {}),
    }
    return await new Promise((resolve, reject) => {
      const request = (isTls ? httpsRequest : httpRequest)(new URL(path, endpoint), options, resolve)
      request.on('error', reject)
      request.end(text)
    })
  }
}

/** Aborts what is under way when its time is up, or when the caller gives it up; everything of it ends with the call. */
class Deadline {
  readonly #controller = new AbortController()
  readonly #outer: AbortSignal
  readonly #timer: NodeJS.Timeout
  readonly #abort = (): void => this.#controller.abort()

  constructor(outer: AbortSignal, timeoutMs: number) {
    this.#outer = outer
    this.#timer = setTimeout(this.#abort, timeoutMs)
    outer.addEventListener('abort', this.#abort)
    if (outer.aborted) this.#abort()
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** There is all the time in the world. */
  cancel(): void {
    clearTimeout(this.#timer)
  }

  /** Cuts the connection, if it still stands. */
  end(): void {
    this.cancel()
    this.#outer.removeEventListener('abort', this.#abort)
    this.#abort()
  }
}

const filesOf = (tls: EtcdConfig['tls']): { ca?: Buffer; cert?: Buffer; key?: Buffer } =>
  Object.fromEntries(Object.entries(tls ?? {}).flatMap(([name, path]) => (path === undefined ? [] : [[name, readFileSync(path)]])))

async function readAll(response: IncomingMessage, endpoint: URL): Promise<string> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    length += chunk.length
    if (length > maxAnswerBytes) throw tooLarge(endpoint, maxAnswerBytes)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** The messages of a stream; the gateway ends each with a line feed. */
async function* linesOf(response: IncomingMessage, endpoint: URL): AsyncGenerator<string> {
  const decoder = new StringDecoder('utf8')
  let pending: string[] = []
  let length = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    const [first = '', ...more] = decoder.write(chunk).split('\n')
    pending.push(first)
    length += first.length
    for (const next of more) {
      const line = pending.join('')
      pending = [next]
      length = next.length
      if (line.trim() !== '') yield line
    }
    if (length > maxMessageBytes) throw tooLarge(endpoint, maxMessageBytes)
  }
}

const tooLarge = (endpoint: URL, limit: number): BackdoorsError =>
  new BackdoorsError('MESSAGE_TOO_LARGE', `etcd at ${endpoint.host} answered with more than ${limit} bytes.`, { path: endpoint.host, length: limit })

/** @throws BackdoorsError PROTOCOL_ERROR */
export function parse<T>(schema: z.ZodType<T>, text: string, endpoint: URL): T {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new BackdoorsError('PROTOCOL_ERROR', `etcd at ${endpoint.host} answered with what is no JSON.`, { path: endpoint.host, cause })
  }
  return check(schema, value, endpoint.host)
}

/** @throws BackdoorsError PROTOCOL_ERROR */
export function check<T>(schema: z.ZodType<T>, value: unknown, from: string): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const field = issue?.path.join('.') ?? ''
  throw new BackdoorsError('PROTOCOL_ERROR', `etcd at ${from} answered with what is no answer: ${field}: ${issue?.message ?? ''}`, { path: from, field })
}

function refusalOf(response: IncomingMessage, text: string, endpoint: URL): BackdoorsError {
  let said: z.output<typeof failure> = {}
  try {
    said = failure.catch({}).parse(JSON.parse(text))
  } catch {
    // A proxy's page, say; the status tells enough.
  }
  const message = said.message ?? (typeof said.error === 'string' ? said.error : said.error?.message) ?? 'no reason given'
  const status = response.statusCode ?? 0
  const isTransient = said.code === undefined ? status >= 500 : transientCodes.has(said.code)
  return new BackdoorsError(isTransient ? 'ETCD_UNAVAILABLE' : 'ETCD_REFUSED', `etcd at ${endpoint.host} refused (HTTP ${status}): ${message.slice(0, 500)}`, { path: endpoint.host })
}
