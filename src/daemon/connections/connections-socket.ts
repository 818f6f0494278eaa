/** The daemon's second socket for servers: clients' connections leave by it, as descriptors. */
import type { Logger } from 'pino'
import type { BoxGeneration } from '../offered-sessions.js'
import { closeDescriptors, DescriptorListener, mostDescriptors, type DescriptorChannel } from '../../servers/descriptor-channel.js'
import { connectionsHello } from '../../servers/local-protocol.js'
import type { Given } from './giving.js'

export class ConnectionsSocket {
  readonly #path: string
  readonly #onGone: (server: BoxGeneration) => void
  readonly #log: Logger
  readonly #servers = new Map<DescriptorChannel, BoxGeneration>()
  #listener: DescriptorListener | undefined

  /** @param onGone is told of each server whose channel has ended */
  constructor(path: string, onGone: (server: BoxGeneration) => void, log: Logger) {
    this.#path = path
    this.#onGone = onGone
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
        onClose: () => opened && this.#forget(opened),
      }
    }).unref()
  }

  isThere(server: BoxGeneration): boolean {
    return this.#channelOf(server) !== undefined
  }

  /** Gives connections to a server, which gets copies of their descriptors. @returns those that are on their way to it */
  give(server: BoxGeneration, connections: readonly Given[]): readonly Given[] {
    const channel = this.#channelOf(server)
    let given = 0
    try {
      while (channel !== undefined && given < connections.length) {
        const some = connections.slice(given, given + mostDescriptors)
        const about = some.map(({ socket: _, ...rest }) => rest)
        channel.send(Buffer.from(JSON.stringify({ connections: about })), some.map(({ socket }) => socket.descriptor))
        given += some.length
      }
    } catch (error) {
      this.#log.warn({ server, given, of: connections.length, err: error }, 'not all connections could be given to this server')
    }
    return connections.slice(0, given)
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
      this.#forget(channel)
    }
  }

  #channelOf({ box, generation }: BoxGeneration): DescriptorChannel | undefined {
    return [...this.#servers].find(([, server]) => server.box === box && server.generation === generation)?.[0]
  }

  #forget(channel: DescriptorChannel): void {
    const server = this.#servers.get(channel)
    this.#servers.delete(channel)
    if (server) this.#onGone(server)
  }
}
