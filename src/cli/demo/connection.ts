import { connect, type Socket } from 'node:net'
import { readLines, type Answer, type Request } from './protocol.js'

export interface ServerAddress {
  readonly node: string
  readonly host: string
  readonly port: number
}

/** One TCP connection of a client to a server. It is closed once, by whichever end; requests unanswered by then stay so. */
export class Connection {
  readonly node: string
  readonly #socket: Socket
  #closed = false

  constructor({ node, host, port }: ServerAddress, onAnswer: (answer: Answer) => void, onClose: () => void) {
    this.node = node
    this.#socket = connect({ host, port, noDelay: true })
    this.#socket.on('error', () => this.#socket.destroy())
    this.#socket.once('close', () => {
      this.#closed = true
      onClose()
    })
    readLines(this.#socket, (line) => onAnswer(JSON.parse(line) as Answer))
  }

  get closed(): boolean {
    return this.#closed
  }

  send(request: Request): void {
    this.#socket.write(`${JSON.stringify(request)}\n`)
  }

  close(): void {
    this.#socket.destroy()
  }
}
