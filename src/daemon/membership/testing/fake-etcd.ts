/** An etcd of one member, as far as its JSON gateway is used here: it tells the truth, or what a test has it say. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

interface Stored {
  readonly value: Buffer
  readonly lease: string
  readonly created: number
  readonly modified: number
}

type Body = Record<string, string> & { create_request?: { start_revision: string } }
/** Answers in the place of etcd. */
type Answer = (response: ServerResponse, body: Body) => void

export class FakeEtcd {
  readonly stored = new Map<string, Stored>()
  /** What calls were made, by their paths, in order. */
  readonly calls: string[] = []
  revision = 1
  #lease = 100
  readonly #leases = new Set<string>()
  readonly #watches = new Set<ServerResponse>()
  readonly #history: { readonly revision: number; readonly event: object }[] = []
  readonly #instead = new Map<string, Answer>()
  readonly #server = createServer((request, response) => void this.#onRequest(request, response))

  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  async close(): Promise<void> {
    if (!this.#server.listening) return
    this.#server.close()
    this.#server.closeAllConnections()
    await once(this.#server, 'close')
  }

  /** From now on, until `undefined` is given, calls of this path are answered so. */
  answer(path: string, answer: Answer | undefined): void {
    if (answer) this.#instead.set(path, answer)
    else this.#instead.delete(path)
  }

  get watches(): number {
    return this.#watches.size
  }

  put(key: string, value: unknown, lease = '0'): void {
    this.revision += 1
    const bytes = Buffer.isBuffer(value) ? value : Buffer.from(typeof value === 'string' ? value : JSON.stringify(value))
    this.stored.set(key, { value: bytes, lease, created: this.stored.get(key)?.created ?? this.revision, modified: this.revision })
    this.#happen({ kv: this.#shown(key) })
  }

  /** As by the end of a lease. */
  delete(key: string): void {
    this.revision += 1
    this.stored.delete(key)
    this.#happen({ type: 'DELETE', kv: { key: Buffer.from(key).toString('base64'), mod_revision: String(this.revision) } })
  }

  /** As by a start with an empty data directory. */
  wipe(): void {
    this.stored.clear()
    this.#leases.clear()
    this.#history.length = 0
    this.revision = 1
  }

  endLeases(): void {
    const ended = [...this.#leases]
    this.#leases.clear()
    for (const [key, { lease }] of [...this.stored]) if (ended.includes(lease)) this.delete(key)
  }

  /** To all that watch. */
  tell(result: object): void {
    this.tellRaw(`${JSON.stringify({ result: { header: this.#header(), ...result } })}\n`)
  }

  tellRaw(text: string): void {
    for (const watch of this.#watches) watch.write(text)
  }

  #header(): object {
    return { cluster_id: '1', revision: String(this.revision) }
  }

  #shown(key: string): object {
    const { value, lease, created, modified } = this.stored.get(key) as Stored
    return { key: Buffer.from(key).toString('base64'), value: value.toString('base64'), lease, create_revision: String(created), mod_revision: String(modified) }
  }

  async #onRequest(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? ''
    const chunks: Buffer[] = []
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
    const body = JSON.parse(Buffer.concat(chunks).toString('utf8')) as Body
    this.calls.push(path)
    const instead = this.#instead.get(path)
    if (instead) instead(response, body)
    else if (path === '/v3/watch') this.#watch(response, Number(body.create_request?.start_revision))
    else response.end(JSON.stringify(this.#answerTo(path, body)))
  }

  #happen(event: object): void {
    this.#history.push({ revision: this.revision, event })
    this.tell({ events: [event] })
  }

  /** What has happened since `from` is told at once. */
  #watch(response: ServerResponse, from: number): void {
    this.#watches.add(response)
    response.on('close', () => this.#watches.delete(response))
    response.write(`${JSON.stringify({ result: { header: this.#header(), created: true } })}\n`)
    const events = this.#history.filter(({ revision }) => revision >= from).map(({ event }) => event)
    if (events.length > 0) response.write(`${JSON.stringify({ result: { header: this.#header(), events } })}\n`)
  }

  #answerTo(path: string, body: Body): object {
    const header = this.#header()
    if (path === '/v3/kv/range') return { header, kvs: [...this.stored.keys()].map((key) => this.#shown(key)) }
    if (path === '/v3/lease/grant') {
      const ID = String(++this.#lease)
      this.#leases.add(ID)
      return { header, ID, TTL: body['TTL'] }
    }
    if (path === '/v3/lease/keepalive') return { result: { header, ID: body['ID'], ...(this.#leases.has(String(body['ID'])) ? { TTL: '15' } : {}) } }
    if (path === '/v3/lease/revoke') return { header }
    this.put(Buffer.from(String(body['key']), 'base64').toString('utf8'), Buffer.from(String(body['value']), 'base64'), String(body['lease']))
    return { header: this.#header() }
  }
}
