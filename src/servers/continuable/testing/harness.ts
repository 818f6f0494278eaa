/**
 * Plays the failure of a machine as a client lives through it. The *wire* is what the kernels do in between: the client's one TCP connection
 * ends in it, and a connection of its own leads to the server. It counts what the server's kernel has read and written, stops at a chosen
 * byte, and gives the next server a new connection, as if that were the old one.
 */
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { BoxOwner } from '../../../region/box-owner.js'
import { Machine } from '../../../region/testing/memory-region.js'
import { bytesCodec } from '../../codec.js'
import type { ConnectionOutcome, OnRestored } from '../../restored-connection.js'
import { SessionStore, type SessionStoreOptions } from '../../session-store.js'
import type { ContinuationNode } from '../continuable.js'
import { nameOfSocket } from '../names.js'

/** A machine's region has an incarnation of its own. */
let machines = 0x1000n

const geometry = { boxCount: 2, sensorsPerBox: 1, sessionsPerBox: 64, heapBytes: 8 << 20 }

/** A node as a server sees it, on a machine of its own. */
export class PlayedNode implements ContinuationNode {
  readonly machine: Machine
  readonly owner: BoxOwner
  readonly handlers = new Map<number, OnRestored>()
  readonly #stores = new Map<string, SessionStore<never>>()

  constructor(heapBytes = geometry.heapBytes) {
    this.machine = new Machine({ ...geometry, heapBytes }, undefined, { node: 'a', cluster: 'test', incarnation: machines++ })
    this.owner = BoxOwner.take(this.machine.open(), { name: 'server', nowMs: () => 1000 })
  }

  get incarnation(): bigint {
    return this.owner.region.header.incarnation
  }

  sessions<T>(name: string, options: SessionStoreOptions<T> = {}): SessionStore<T> {
    const store = (this.#stores.get(name) as unknown as SessionStore<T> | undefined) ?? new SessionStore<T>(this.owner, name, options.codec ?? (bytesCodec as never), options)
    this.#stores.set(name, store as unknown as SessionStore<never>)
    return store
  }

  onRestored(port: number, handler: OnRestored): () => void {
    this.handlers.set(port, handler)
    return () => void this.handlers.delete(port)
  }

  get onlyHandler(): OnRestored {
    const [handler] = this.handlers.values()
    if (handler === undefined) throw new Error('no server registered its port')
    return handler
  }

  records(store: string): SessionStore<Uint8Array> {
    return this.sessions<Uint8Array>(`connections:${store}`, { codec: bytesCodec })
  }
}

export async function listening(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

/** Two connected sockets on loopback: ours, and the one that a server's machine would have. */
export async function pairOfSockets(): Promise<[Socket, Socket]> {
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true })
  const port = await listening(server)
  const ours = connect({ port, host: '127.0.0.1', noDelay: true })
  const [[theirs]] = (await Promise.all([once(server, 'connection'), once(ours, 'connect')])) as unknown as [[Socket], unknown]
  server.close()
  return [ours, theirs]
}

/** One connection of a client, through the machines that it lives on one after the other. */
export class Wire {
  /** All that the client has got. */
  readonly received: Buffer[] = []
  /** By the life of the connection on the present machine: that its kernel gave to the server, and got from it. */
  read = 0
  written = 0
  ended = false
  /** It ended by a reset. */
  wasReset = false
  /** Written by a server, not yet acknowledged: sent again by the next machine's kernel, which counts it once more. */
  unacknowledged = 0
  name = ''
  #socket: Socket | undefined
  #unread: Buffer[] = []
  #changed: (() => void)[] = []

  get text(): string {
    return Buffer.concat(this.received).toString('latin1')
  }

  async connect(port: number): Promise<void> {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true })
    await once(socket, 'connect')
    this.name = nameOfSocket({ localAddress: socket.remoteAddress, localPort: socket.remotePort, remoteAddress: socket.localAddress, remotePort: socket.localPort })!
    this.#attach(socket)
  }

  /** As the client. */
  send(bytes: Buffer | string): void {
    this.#unread.push(Buffer.from(bytes as string))
    this.#flow()
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#changed.push(resolve))
  }

  /** The machine is dead; what it would still do is not seen by anybody. */
  kill(): void {
    this.#socket?.removeAllListeners('data').removeAllListeners('close').on('data', () => undefined).on('error', () => undefined)
    this.#socket = undefined
  }

  /**
   * Goes on with the connection on another machine, whose node's server is told of it. What the client has sent meanwhile waits in the
   * receive queue. @param life of the machine whose kernel had the connection last, where its server had not come to commit anything
   */
  async restore(from: PlayedNode, to: PlayedNode, store: string, life = from.incarnation): Promise<ConnectionOutcome> {
    const record = from.records(store).get(this.name)
    if (record !== undefined) to.records(store).commit(this.name, record)
    const [ours, theirs] = await pairOfSockets()
    const { read, written, unacknowledged, name } = this
    this.read = 0
    this.written = unacknowledged
    this.ended = false
    this.#attach(ours)
    this.#flow()
    return to.onlyHandler({ name, life: life.toString(16), socket: theirs, read, written, unread: this.read, unacknowledged })
  }

  close(): void {
    this.#socket?.destroy()
  }

  #attach(socket: Socket): void {
    this.#socket = socket
    socket.on('data', (bytes: Buffer) => {
      this.written += bytes.length
      this.received.push(bytes)
      this.#tell()
    })
    socket.on('error', ({ code }: NodeJS.ErrnoException) => (this.wasReset ||= code === 'ECONNRESET'))
    socket.on('close', () => {
      this.ended = true
      this.#tell()
    })
  }

  #flow(): void {
    const bytes = Buffer.concat(this.#unread)
    if (this.#socket === undefined || bytes.length === 0) return
    this.#unread = []
    this.read += bytes.length
    this.#socket.write(bytes)
  }

  #tell(): void {
    for (const resolve of this.#changed.splice(0)) resolve()
  }
}
