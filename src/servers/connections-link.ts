/** A server's second connection to the daemon of its machine, by which clients' connections come over: as descriptors. */
import { Socket } from 'node:net'
import { BackdoorsError } from '../errors.js'
import type { BoxOwner } from '../region/box-owner.js'
import type { Region } from '../region/region.js'
import { DescriptorChannel } from './descriptor-channel.js'
import { connectionsSocketPathOf, restoredMessage } from './local-protocol.js'
import type { ConnectionOutcome, OnRestored, RestoredConnection } from './restored-connection.js'

/** A daemon may have started later, or continue no connections: then nobody is there to connect to. In milliseconds. */
const firstRetryMs = 100
const lastRetryMs = 10_000

/** `pauseOnCreate` is missing from the types; without it a socket reads at once. */
const paused = { pauseOnCreate: true, readable: true, writable: true, allowHalfOpen: true }

export class ConnectionsLink {
  readonly #region: Region
  readonly #owner: BoxOwner
  readonly #onOutcomes: (outcomes: readonly ConnectionOutcome[]) => void
  readonly #handlers = new Map<number, OnRestored>()
  #channel: DescriptorChannel | undefined
  #retry: NodeJS.Timeout | undefined
  #retryMs = firstRetryMs
  #closed = false

  constructor(region: Region, owner: BoxOwner, onOutcomes: (outcomes: readonly ConnectionOutcome[]) => void) {
    this.#region = region
    this.#owner = owner
    this.#onOutcomes = onOutcomes
  }

  get ports(): number[] {
    return [...this.#handlers.keys()]
  }

  /** @throws BackdoorsError INVALID_ARGUMENT */
  onRestored(port: number, handler: OnRestored): () => void {
    if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new BackdoorsError('INVALID_ARGUMENT', `${port} is no port whose connections could be continued.`, { field: 'port' })
    if (this.#handlers.has(port)) throw new BackdoorsError('INVALID_ARGUMENT', `Connections to port ${port} are continued by this server already.`, { field: 'port' })
    this.#handlers.set(port, handler)
    this.#connect()
    return () => void (this.#handlers.get(port) === handler && this.#handlers.delete(port))
  }

  /** It may have been away: what is asked of it is asked at once, and soon again where it is not that far yet. */
  daemonIsThere(): void {
    this.#retryMs = firstRetryMs
    if (this.#handlers.size > 0) this.#connect()
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#retry)
    this.#channel?.close()
  }

  #connect(): void {
    if (this.#channel || this.#closed) return
    clearTimeout(this.#retry)
    const again = (): void => {
      this.#channel = undefined
      if (this.#closed) return
      this.#retry = setTimeout(() => this.#connect(), this.#retryMs).unref()
      this.#retryMs = Math.min(2 * this.#retryMs, lastRetryMs)
    }
    try {
      const channel = DescriptorChannel.connect(connectionsSocketPathOf(this.#region.memory.path), {
        onMessage: (bytes, descriptors) => this.#onMessage(bytes, descriptors),
        onClose: again,
      }).unref()
      this.#channel = channel
      channel.send(Buffer.from(JSON.stringify({ box: this.#owner.box, generation: this.#owner.generation })))
      this.#retryMs = firstRetryMs
    } catch {
      // A daemon that is not there costs the server nothing: it is tried again, later.
      again()
    }
  }

  #onMessage(bytes: Uint8Array, descriptors: readonly number[]): void {
    // All become sockets first, so that each has somebody who closes it.
    const sockets = descriptors.map((fd) => new Socket({ ...paused, fd }))
    for (const socket of sockets) socket.on('error', () => undefined)
    const message = parse(bytes)
    if (message?.connections.length !== sockets.length) {
      for (const socket of sockets) socket.resetAndDestroy()
      return
    }
    void Promise.all(message.connections.map(({ port, ...about }, i) => this.#give(port, { ...about, socket: sockets[i] as Socket }))).then(this.#onOutcomes)
  }

  async #give(port: number, connection: RestoredConnection): Promise<ConnectionOutcome> {
    const { name, socket } = connection
    const handler = this.#handlers.get(port)
    const outcome = await handler?.(connection).catch((): ConnectionOutcome => ({ name, reset: 'not-continuable' })) ?? { name, reset: 'no-server' }
    if (outcome.reset !== undefined && !socket.destroyed) socket.resetAndDestroy()
    return outcome
  }
}

function parse(bytes: Uint8Array): ReturnType<typeof restoredMessage.parse> | undefined {
  try {
    return restoredMessage.parse(JSON.parse(Buffer.from(bytes).toString()))
  } catch {
    return undefined
  }
}
