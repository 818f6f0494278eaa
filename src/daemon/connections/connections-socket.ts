/** The daemon's second socket for servers: clients' connections leave by it, as descriptors. */
import type { Logger } from 'pino'
import type { BoxGeneration } from '../offered-sessions.js'
import { closeDescriptors, DescriptorListener, mostDescriptors, type DescriptorChannel } from '../../servers/descriptor-channel.js'
import { connectionsHello } from '../../servers/local-protocol.js'
import type { Given } from './connections.js'

export class ConnectionsSocket {
  readonly #path: string
  readonly #log: Logger
  readonly #servers = new Map<DescriptorChannel, BoxGeneration>()
  #listener: DescriptorListener | undefined

  constructor(path: string, log: Logger) {
    this.#path = path
    this.#log = log
  }

  /** The daemon holds its region's lock by now, so a socket file that is there belongs to a dead one. @throws BackdoorsError SYSTEM_CALL_FAILED */
  listen(): void {
    this.#listener = new DescriptorListener(this.#path, () => {
      let opened: DescriptorChannel | undefined
      return {
        onOpen: (channel) => void (opened = channel),
        onMessage: (message, descriptors, channel) => {
          closeDescriptors(descriptors)
          this.#onHello(channel, message)
        },
        onClose: () => void (opened && this.#servers.delete(opened)),
      }
    }).unref()
  }

  /** Gives connections to a server; their descriptors are closed here. @returns whether it is there to get them */
  give(server: BoxGeneration, connections: readonly Given[]): boolean {
    const channel = [...this.#servers].find(([, { box, generation }]) => box === server.box && generation === server.generation)?.[0]
    if (channel === undefined) return false
    try {
      for (let from = 0; from < connections.length; from += mostDescriptors) {
        const some = connections.slice(from, from + mostDescriptors)
        const about = some.map(({ socket: _, ...rest }) => rest)
        channel.send(Buffer.from(JSON.stringify({ connections: about })), some.map(({ socket }) => socket.descriptor))
      }
    } catch (error) {
      this.#log.warn({ server, err: error }, 'connections could not be given to this server')
      return false
    }
    for (const { socket } of connections) socket.close()
    return true
  }

  /** Idempotent. */
  close(): void {
    this.#listener?.close()
    this.#servers.clear()
  }

  #onHello(channel: DescriptorChannel, message: Uint8Array): void {
    try {
      this.#servers.set(channel, connectionsHello.parse(JSON.parse(Buffer.from(message).toString())))
    } catch (error) {
      this.#log.warn({ err: error }, 'a message on the socket for connections was refused')
      channel.close()
      this.#servers.delete(channel)
    }
  }
}
