/** As little of an HTTP client as a benchmark can do with: what it takes itself is not the server's. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { BackdoorsError } from '../../errors.js'

const closed = (): BackdoorsError => new BackdoorsError('PEER_UNREACHABLE', 'a connection to the server of the benchmark has been closed')

/** A kept connection, on which one request at a time is under way. Answers have a content-length. */
export class HttpConnection {
  readonly #socket: Socket
  #got = ''
  #waiting: { readonly resolve: (body: string) => void; readonly reject: (error: Error) => void } | undefined

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.setEncoding('latin1').on('data', (part: string) => this.#take(part))
    socket.on('error', () => undefined).once('close', () => this.#waiting?.reject(closed()))
  }

  static async open(port: number): Promise<HttpConnection> {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true })
    await once(socket, 'connect')
    return new HttpConnection(socket)
  }

  /** @returns the body of the answer. @throws BackdoorsError PEER_UNREACHABLE */
  request(bytes: Buffer): Promise<string> {
    if (this.#socket.destroyed) return Promise.reject(closed())
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject }
      this.#socket.write(bytes)
    })
  }

  close(): void {
    this.#waiting = undefined
    this.#socket.destroy()
  }

  #take(part: string): void {
    this.#got += part
    const body = this.#got.indexOf('\r\n\r\n') + 4
    if (body < 4 || this.#got.length < body + Number(/content-length: (\d+)/i.exec(this.#got)?.[1])) return
    const answer = this.#got.slice(body)
    this.#got = ''
    this.#waiting?.resolve(answer)
  }
}
