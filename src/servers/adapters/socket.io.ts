/**
 * An adapter for Socket.IO whose connection state recovery outlives the server. A dead server saves nothing when its clients
 * are cut off, so rooms and packets are committed as they come, and a packet before it is sent.
 */
import { randomBytes } from 'node:crypto'
import { Adapter, type BroadcastOptions, type Session } from 'socket.io-adapter'
import { asBackdoorsError, BackdoorsError, isBackdoorsError } from '../../errors.js'
import type { AttachedNode } from '../attach.js'
import type { SessionStore } from '../session-store.js'
import { Arrivals } from './arrivals.js'
import { includes, offsetOf, packetId, parseOffset, type LogPosition, type StoredRecord, type StoredSocket } from './socket-records.js'

export interface RecoveryAdapterOptions {
  /** Name of the store. Default `socket.io`. */
  readonly name?: string
  /** Packets that are kept of each namespace; clients that have missed more do not recover. Default 4096. */
  readonly maxPackets?: number
  /** How long a client is waited for its session, in milliseconds, where it comes sooner than that. Default 0. */
  readonly waitMs?: number
  /** Is told what could not be committed when nobody asked for it. Default: a warning of the process. */
  readonly onError?: (error: BackdoorsError) => void
}

/** What is used of a socket of Socket.IO. */
export interface SocketLike {
  readonly id: string
  readonly rooms: ReadonlySet<string>
  readonly data: unknown
}

interface KnownSocket extends SocketLike {
  readonly pid?: string
  readonly client: { close(): void; readonly conn: { close(): void } }
  packet(packet: Packet): void
  _onclose(reason: 'forced close'): void
}

interface NamespaceLike {
  readonly name: string
  readonly sockets: ReadonlyMap<string, KnownSocket>
  readonly server: {
    readonly opts: { readonly connectionStateRecovery?: { readonly maxDisconnectionDuration: number } }
    readonly encoder: { encode(packet: object): unknown }
  }
}

interface Packet {
  readonly type: number
  readonly id?: number
  data: unknown[]
}

/** `PacketType.EVENT` of socket.io-parser. */
const eventType = 2
const defaultMaxPackets = 4096
/** A session that has been on more servers than these is not followed back any further. */
const maxLogs = 16

/**
 * @example
 * const io = new Server(http, { connectionStateRecovery: {}, adapter: recoveryAdapter(node) })
 */
export function recoveryAdapter(node: AttachedNode, options: RecoveryAdapterOptions = {}): (namespace: unknown) => RecoveryAdapter {
  const store = node.sessions<StoredRecord>(options.name ?? 'socket.io')
  // Each namespace listens.
  store.setMaxListeners(0)
  // Socket.IO calls it with `new`, so it cannot be an arrow.
  return function adapter(namespace) {
    return new RecoveryAdapter(namespace as NamespaceLike, store, options)
  }
}

export class RecoveryAdapter extends Adapter {
  readonly #namespace: NamespaceLike
  readonly #store: SessionStore<StoredRecord>
  readonly #arrivals: Arrivals
  readonly #lastsMs: number
  readonly #maxPackets: number
  readonly #waitMs: number
  readonly #onError: (error: BackdoorsError) => void
  /** The packets of this life of the server. */
  readonly #log = randomBytes(9).toString('base64url')
  #number = 0
  readonly #paths = new Map<string, readonly LogPosition[]>()
  readonly #persisted = new Set<string>()
  /** Sockets that have recovered and are not connected yet, by their ids: what is sent to their rooms until then goes past them. */
  readonly #onTheirWay = new Map<string, { readonly after: number; readonly rooms: readonly string[] }>()

  /** Use `recoveryAdapter`. */
  constructor(namespace: NamespaceLike, store: SessionStore<StoredRecord>, options: RecoveryAdapterOptions) {
    super(namespace)
    const recovery = namespace.server.opts.connectionStateRecovery
    if (recovery === undefined) throw new BackdoorsError('INVALID_ARGUMENT', 'Set connectionStateRecovery of the Socket.IO server: without it nothing is recovered.', { field: 'connectionStateRecovery' })
    this.#namespace = namespace
    this.#store = store
    this.#lastsMs = recovery.maxDisconnectionDuration
    this.#maxPackets = options.maxPackets ?? defaultMaxPackets
    this.#waitMs = options.waitMs ?? 0
    this.#onError = options.onError ?? ((error) => process.emitWarning(error))
    this.#adopt([...store.ids()])
    store.on('adopted', this.#onAdopted)
    // After the listener above, so that who waits finds what has been adopted.
    this.#arrivals = new Arrivals(store as unknown as SessionStore<never>)
  }

  override close(): void {
    this.#store.off('adopted', this.#onAdopted)
    this.#arrivals.close()
  }

  /** Commits `socket.data` as it is. Needed only where it changes and nothing is sent to the socket after that. @throws BackdoorsError as `SessionStore.commit` */
  save(socket: SocketLike): void {
    this.#commitSocket(socket as KnownSocket)
  }

  override addAll(id: string, rooms: Set<string>): void {
    void super.addAll(id, rooms)
    this.#catchUp(id)
    this.#roomsChanged(id)
  }

  override del(id: string, room: string): void {
    void super.del(id, room)
    this.#roomsChanged(id)
  }

  /** The socket is gone. Where it may come back, `persistSession` was called before. */
  override delAll(id: string): void {
    super.delAll(id)
    this.#onTheirWay.delete(id)
    const pid = this.#namespace.sockets.get(id)?.pid
    if (pid === undefined) return
    this.#paths.delete(pid)
    if (!this.#persisted.delete(pid)) this.#quietly(() => this.#store.delete(socketKey(pid)))
  }

  override persistSession({ sid, pid, rooms, data }: Omit<Session, 'missedPackets'>): void {
    this.#persisted.add(pid)
    this.#quietly(() => this.#store.commit(socketKey(pid), this.#stored(pid, sid, rooms, data), this.#lastsMs))
  }

  /** @returns nothing where the session is unknown, or not all that its client has missed is here, or a socket of it is about to be connected */
  override async restoreSession(pid: string, offset: string): Promise<Session> {
    const found = await this.#arrivals.find(() => this.#recover(pid, offset), this.#waitMs)
    // Socket.IO takes null for "none", though its types do not say so.
    return found ?? (null as unknown as Session)
  }

  /** @throws BackdoorsError FENCED, BOX_FULL, SESSION_TOO_LARGE, INVALID_ARGUMENT, or what Socket.IO's encoder throws: nothing was sent */
  override broadcast(packet: Packet, options: BroadcastOptions): void {
    // As Socket.IO's own adapter: what waits for an answer cannot be answered elsewhere.
    if (packet.type === eventType && packet.id === undefined && options.flags?.volatile === undefined) this.#keep(packet, options)
    super.broadcast(packet, options)
  }

  #keep(packet: Packet, { rooms, except }: BroadcastOptions): void {
    const number = this.#number + 1
    const data = [...packet.data, offsetOf(this.#log, number)]
    const { name: namespace } = this.#namespace
    // What cannot be written must not be kept: it would be written again at each recovery.
    this.#encode(data)
    // A change of the socket's data that cannot be kept is told before anything is sent, too.
    const [first] = rooms
    const socket = rooms.size === 1 && first !== undefined ? this.#namespace.sockets.get(first) : undefined
    if (socket) this.#commitSocket(socket)
    const key = packetId(this.#log, number)
    this.#store.commit(key, { kind: 'packet', namespace, rooms: [...rooms], except: [...(except ?? [])], data }, this.#lastsMs)
    try {
      // What the head does not tell of was not sent.
      this.#store.commit(headKey(this.#log), { kind: 'head', namespace, log: this.#log, number }, 0)
    } catch (error) {
      this.#quietly(() => this.#store.delete(key))
      throw error
    }
    this.#number = number
    packet.data = data
    if (number > this.#maxPackets) this.#quietly(() => this.#store.delete(packetId(this.#log, number - this.#maxPackets)))
  }

  #encode(data: readonly unknown[]): void {
    this.#namespace.server.encoder.encode({ type: eventType, nsp: this.#namespace.name, data })
  }

  #roomsChanged(id: string): void {
    const socket = this.#namespace.sockets.get(id)
    if (socket === undefined) return
    // A client that would lose its rooms with this server is sent away, to come back to one that can keep them.
    if (!this.#quietly(() => this.#commitSocket(socket))) this.#sendAway(socket)
  }

  #sendAway(socket: KnownSocket): void {
    socket.client.conn.close()
    // Its connection does not know of a socket that is being connected, which would stay for ever. Its handlers are there a moment later.
    setImmediate(() => socket._onclose('forced close'))
  }

  #commitSocket({ pid, id, data }: KnownSocket): void {
    if (pid === undefined) return
    try {
      this.#store.commit(socketKey(pid), this.#stored(pid, id, [...(this.sids.get(id) ?? [])], data), 0)
    } catch (error) {
      throw unkept(error)
    }
  }

  #stored(pid: string, sid: string, rooms: readonly string[], data: unknown): StoredSocket {
    const known = this.#paths.get(pid) ?? this.#socketOf(pid)?.path
    const path = known ?? [[this.#log, this.#number]]
    this.#paths.set(pid, path)
    return { kind: 'socket', namespace: this.#namespace.name, sid, rooms, data, path }
  }

  /** @returns null where waiting would not help */
  #recover(pid: string, offset: string): Session | null | undefined {
    let session = this.#restore(pid, offset)
    if (session === undefined) return undefined
    const { sid } = session
    // Two sockets of one id: when either ended, the other would be in no room. Which one has it cannot be undone once its middleware runs.
    if (this.#onTheirWay.has(sid)) return null
    const old = this.#namespace.sockets.get(sid)
    if (old !== undefined) {
      if (old.pid !== pid) return null
      // The client knows sooner than its server that its connection is gone.
      old.client.close()
      session = this.#restore(pid, offset)
      if (session === undefined || this.#namespace.sockets.has(sid)) return null
    }
    this.#onTheirWay.set(sid, { after: this.#number, rooms: session.rooms })
    return session
  }

  /** Sends a socket that is connected now what came after it was recovered. */
  #catchUp(id: string): void {
    const socket = this.#namespace.sockets.get(id)
    const from = this.#onTheirWay.get(id)
    if (socket === undefined || from === undefined) return
    this.#onTheirWay.delete(id)
    this.#quietly(() => {
      const missed = this.#packets(this.#log, from.after, from.rooms)
      // It comes again, and then it does not recover.
      if (missed === undefined) this.#sendAway(socket)
      else for (const data of missed) socket.packet({ type: eventType, data })
    })
  }

  #restore(pid: string, offset: string): Session | undefined {
    const socket = this.#socketOf(pid)
    const position = parseOffset(offset)
    if (socket === undefined || position === undefined) return undefined
    const at = socket.path.findIndex(([log, after]) => log === position[0] && position[1] >= after)
    if (at < 0) return undefined
    const missedPackets: unknown[][] = []
    for (const [log, after] of [position, ...socket.path.slice(at + 1)]) {
      const missed = this.#packets(log, after, socket.rooms)
      if (missed === undefined) return undefined
      missedPackets.push(...missed)
    }
    return { sid: socket.sid, pid, rooms: [...socket.rooms], data: socket.data, missedPackets }
  }

  /** Of a log after this number, for a socket in these rooms. @returns undefined where one of them is not here */
  #packets(log: string, after: number, rooms: readonly string[]): unknown[][] | undefined {
    const last = this.#lastOf(log)
    if (last === undefined || after > last) return undefined
    const packets: unknown[][] = []
    for (let number = after + 1; number <= last; number++) {
      const packet = this.#store.get(packetId(log, number))
      // It has not come over yet, or is too old: a gap would not be noticed by anybody.
      if (packet?.kind !== 'packet') return undefined
      if (!includes(packet, rooms)) continue
      // From another server's memory it may be anything, and Socket.IO would end the process on what it cannot write.
      this.#encode(packet.data)
      packets.push([...packet.data])
    }
    return packets
  }

  #lastOf(log: string): number | undefined {
    if (log === this.#log) return this.#number
    const head = this.#store.get(headKey(log))
    return head?.kind === 'head' ? head.number : undefined
  }

  #socketOf(pid: string): StoredSocket | undefined {
    const found = this.#store.get(socketKey(pid))
    return found?.kind === 'socket' && found.namespace === this.#namespace.name ? found : undefined
  }

  readonly #onAdopted = ({ ids }: { readonly ids: readonly string[] }): void => this.#adopt(ids)

  /** Sockets that were connected to another life or another server: from here on their packets are in this log, too. */
  #adopt(ids: readonly string[]): void {
    for (const id of ids) this.#quietly(() => {
      const record = this.#store.get(id)
      if (record?.namespace !== this.#namespace.name) return
      if (record.kind === 'socket') this.#store.commit(id, { ...record, path: [...record.path, [this.#log, this.#number] as const].slice(-maxLogs) }, this.#lastsMs)
      if (record.kind === 'head') this.#store.commit(id, record, this.#lastsMs)
    })
  }

  /** For what nobody called for, and so nobody would catch. @returns whether it was done */
  #quietly(run: () => void): boolean {
    try {
      run()
      return true
    } catch (error) {
      // The sockets are another server's by now.
      if (!isBackdoorsError(error, 'FENCED', 'CLOSED')) this.#onError(unkept(error))
      return false
    }
  }
}

const unkept = (error: unknown): BackdoorsError => asBackdoorsError(error, 'INVALID_ARGUMENT', 'The state of a socket cannot be kept')
const socketKey = (pid: string): string => `s/${pid}`
const headKey = (log: string): string => `h/${log}`
