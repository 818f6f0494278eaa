/** How MQTT packets and names become records of a session store, and packets again; and what aedes keeps in memory by itself. */
import memoryPersistence from 'aedes-persistence'
import { createHash } from 'node:crypto'
import type { Readable } from 'node:stream'
import { maxSessionIdBytes } from '../../region/layout.js'
import { encodeText } from '../../region/text.js'

export interface PacketLike {
  cmd?: string
  topic?: string
  payload?: string | Uint8Array
  qos?: number
  retain?: boolean
  dup?: boolean
  messageId?: number | undefined
  brokerId?: string | undefined
  brokerCounter?: number
  clientId?: string
}

export interface ClientLike {
  readonly id: string
  /** What aedes publishes when the connection ends. */
  will?: unknown
  readonly conn?: { destroy(): unknown } | null
}

export interface BrokerLike {
  readonly id: string
  readonly clients?: Readonly<Record<string, ClientLike>>
}

export interface Subscription {
  readonly topic: string
  readonly qos: number
  readonly rh?: number | undefined
  readonly rap?: boolean | undefined
  readonly nl?: boolean | undefined
  readonly subscriptionIdentifier?: number | undefined
}

/** What we use of aedes' own persistence: its answers by pattern. Its methods give promises where they get no callback. */
export interface MemoryIndex {
  readonly broker: BrokerLike
  setup(broker: BrokerLike): Promise<void>
  storeRetained(packet: PacketLike): Promise<void>
  createRetainedStream(pattern: string): Readable
  createRetainedStreamCombi(patterns: readonly string[]): Readable
  addSubscriptions(client: ClientLike, subscriptions: readonly Subscription[]): Promise<void>
  removeSubscriptions(client: ClientLike, topics: readonly string[]): Promise<void>
  cleanSubscriptions(client: ClientLike): Promise<void>
  subscriptionsByClient(client: ClientLike): Promise<Subscription[]>
  subscriptionsByTopic(topic: string): Promise<(Subscription & { clientId: string })[]>
  countOffline(): Promise<{ subsCount: number; clientsCount: number }>
  getClientList(topic: string): Readable
  putWill(client: ClientLike, packet: PacketLike): Promise<void>
  getWill(client: ClientLike): Promise<PacketLike | undefined>
  delWill(client: ClientLike): Promise<PacketLike | undefined>
  streamWill(brokers: Readonly<Record<string, number>>): Readable
  destroy(): Promise<void>
}

/** The package's types are those of another module system, and say nothing of promises. */
const aedesPersistence = memoryPersistence as unknown as { (): MemoryIndex; readonly Packet: new (original: PacketLike) => PacketLike }

export const memoryIndex = (): MemoryIndex => aedesPersistence()

/** Room for a number behind the key, in bytes. */
const numberBytes = 32

/** A session id for a client's id or a topic, which MQTT allows 65,535 bytes and any character. */
export function keyOf(text: string): string {
  // Whatever begins with # is hashed as well, so that no key is another's.
  const isPlain = !text.startsWith('#') && encodeText(text, maxSessionIdBytes - numberBytes) !== undefined
  return isPlain ? text : `#${createHash('sha256').update(text).digest('base64url')}`
}

/** A packet as aedes keeps it: of its own class, so that it does not change with the sender's, and without an identifier. */
export const packetOf = (packet: PacketLike): PacketLike => new aedesPersistence.Packet(packet)

/** All of its fields as they are, for a record. */
export const copyOf = (packet: PacketLike): PacketLike => ({ ...packet })

/** From a record: a payload of bytes is a Buffer again. */
export function restored(fields: PacketLike): PacketLike {
  const { payload } = fields
  return payload instanceof Uint8Array ? { ...fields, payload: Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength) } : fields
}
