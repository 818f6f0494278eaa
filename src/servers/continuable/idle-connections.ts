/**
 * Connections of an http server that came over between two requests, and have sent nothing since.
 *
 * Node.js keeps its connections by their parsers: in the list of those whose requests are under way, where a parser begins, or of those
 * that are idle, to which only the end of a request brings it. A parser that has had no request yet, but is to wait as after one, can
 * be in neither, so that it is kept here, until its first byte puts it among Node's own (src/node_http_parser.cc).
 */
import type { Socket } from 'node:net'

type Parsed = Socket & { readonly parser?: { remove?: () => void } | null }

/** What of a server's this is about. */
interface Ending {
  closeIdleConnections(): void
  closeAllConnections(): void
  /** How long a connection may be idle after an answer, in milliseconds; 0 for ever. */
  readonly keepAliveTimeout: number
}

export class IdleConnections {
  readonly #server: Ending
  /** By how many bytes they had read when they came over. */
  readonly #sockets = new Map<Parsed, number>()

  /** `closeIdleConnections`, `closeAllConnections` and, which calls the first of them, `close` of the server are to end these as well. */
  constructor(server: Ending) {
    this.#server = server
    for (const name of ['closeIdleConnections', 'closeAllConnections'] as const) {
      const ofNode = server[name].bind(server)
      server[name] = () => {
        ofNode()
        this.#end(name === 'closeAllConnections')
      }
    }
  }

  /** It ends without a word when it has been idle for as long as its server allows. */
  add(socket: Parsed): void {
    const { keepAliveTimeout: timeoutMs } = this.#server
    socket.parser?.remove?.()
    this.#sockets.set(socket, socket.bytesRead)
    const timer = timeoutMs === 0 ? undefined : setTimeout(() => void (this.#isIdle(socket) && socket.destroy()), timeoutMs).unref()
    socket.once('close', () => {
      clearTimeout(timer)
      this.#sockets.delete(socket)
    })
  }

  #isIdle(socket: Parsed): boolean {
    return socket.bytesRead === this.#sockets.get(socket)
  }

  #end(all: boolean): void {
    for (const socket of this.#sockets.keys()) {
      // One without a parser is no longer HTTP's, and so nothing to its server. An idle one first sends what was answered elsewhere.
      if (all && socket.parser) socket.destroy()
      else if (!all && this.#isIdle(socket)) socket.destroySoon()
    }
  }
}
