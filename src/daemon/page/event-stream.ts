/** Server-sent events: one frame of the daemon's status now and then, to all who look. */
import type { ServerResponse } from 'node:http'

/** Two frames that nobody has read are enough: a reader that is slower than that is disconnected, and may come again. In bytes. */
const maxUnread = 4 << 20

export interface EventStreamOptions {
  readonly maxClients: number
  readonly everyMs: number
  /** What the clients get: by event, anything that JSON can carry. Asked for only while somebody looks; `whole` for one who has just come. */
  readonly frame: (whole: boolean) => Readonly<Record<string, unknown>>
}

export class EventStream {
  readonly #options: EventStreamOptions
  readonly #clients = new Set<ServerResponse>()
  #timer: NodeJS.Timeout | undefined
  #soon: NodeJS.Immediate | undefined

  constructor(options: EventStreamOptions) {
    this.#options = options
  }

  get clients(): number {
    return this.#clients.size
  }

  get isFull(): boolean {
    return this.#clients.size >= this.#options.maxClients
  }

  /** Takes over a response whose head has not been written. */
  add(response: ServerResponse): void {
    this.#clients.add(response)
    response.once('close', () => this.#drop(response))
    // A browser that is cut off comes again after so long, in milliseconds.
    response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' }).write('retry: 1000\n\n')
    response.write(this.#text(true))
    this.#timer ??= setInterval(() => this.#send(), this.#options.everyMs)
  }

  /** Sends a frame at the end of this turn: several changes make one frame. */
  refresh(): void {
    if (this.#clients.size === 0) return
    this.#soon ??= setImmediate(() => this.#send())
  }

  close(): void {
    for (const client of this.#clients) client.destroy()
    this.#clients.clear()
    this.#rest()
  }

  #text(whole: boolean): string {
    return Object.entries(this.#options.frame(whole)).map(([event, data]) => `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`).join('')
  }

  #send(): void {
    this.#soon = undefined
    if (this.#clients.size === 0) return
    const text = this.#text(false)
    for (const client of this.#clients) {
      if (client.writableLength > maxUnread) client.destroy()
      else client.write(text)
    }
  }

  #drop(response: ServerResponse): void {
    this.#clients.delete(response)
    if (this.#clients.size === 0) this.#rest()
  }

  #rest(): void {
    clearInterval(this.#timer)
    clearImmediate(this.#soon)
    this.#timer = undefined
    this.#soon = undefined
  }
}
