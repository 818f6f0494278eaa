/**
 * A persistence for aedes, an MQTT broker: what a client that comes back is owed (subscriptions, messages of QoS 1 and 2, wills) and
 * retained messages, in sessions of this server. A change is committed before aedes is told that it was made.
 */
import { Readable } from 'node:stream'
import type { AttachedNode } from '../attach.js'
import type { SessionStore } from '../session-store.js'
import { copyOf, keyOf, memoryIndex, packetOf, restored, type BrokerLike, type ClientLike, type PacketLike, type Subscription } from './mqtt-records.js'
import { PacketQueues, type Queued } from './packet-queues.js'

export interface BackdoorsPersistenceOptions {
  /** Its stores' names begin with this. Default `mqtt`. */
  readonly name?: string
}

interface Subscribed {
  readonly clientId: string
  readonly subscriptions: readonly Subscription[]
}

/**
 * Errors are those of `SessionStore`: aedes ends the connection of the client that it was at work for, or emits `error`.
 *
 * @example
 * const broker = await Aedes.createBroker({ persistence: new BackdoorsPersistence(node) })
 */
export class BackdoorsPersistence {
  /** What is asked by pattern is kept in memory as well, by the persistence that aedes has by itself. */
  readonly #memory = memoryIndex()
  /** Of each client, by topic: as they are committed. */
  readonly #held = new Map<string, ReadonlyMap<string, Subscription>>()
  readonly #retained: SessionStore<PacketLike>
  readonly #subscriptions: SessionStore<Subscribed>
  readonly #wills: SessionStore<PacketLike>
  readonly #outgoing: PacketQueues
  readonly #incoming: PacketQueues
  readonly #forget: (() => void)[] = []

  constructor(node: AttachedNode, { name = 'mqtt' }: BackdoorsPersistenceOptions = {}) {
    this.#retained = node.sessions(`${name}.retained`)
    this.#subscriptions = node.sessions(`${name}.subscriptions`)
    this.#wills = node.sessions(`${name}.wills`)
    this.#outgoing = new PacketQueues(node.sessions(`${name}.outgoing`))
    this.#incoming = new PacketQueues(node.sessions(`${name}.incoming`))
  }

  get broker(): BrokerLike {
    return this.#memory.broker
  }

  /** Takes up what is there already, and from then on what comes over from failed servers. */
  async setup(broker: BrokerLike): Promise<void> {
    await this.#memory.setup(broker)
    await this.#follow(this.#retained, (packet) => this.#memory.storeRetained(restored(packet)))
    await this.#follow(this.#subscriptions, (subscribed) => this.#restoreSubscriptions(subscribed))
    // As memory's own `putWill`, which would take the broker that runs now for the will's.
    await this.#follow(this.#wills, (will) => this.#restoreWill(will))
    this.#forget.push(this.#outgoing.follow(), this.#incoming.follow())
  }

  async storeRetained(packet: PacketLike): Promise<void> {
    const key = keyOf(packet.topic ?? '')
    if ((packet.payload?.length ?? 0) === 0) this.#retained.delete(key)
    else this.#retained.commit(key, copyOf(packet))
    await this.#memory.storeRetained(packet)
  }

  createRetainedStream(pattern: string): Readable {
    return this.#memory.createRetainedStream(pattern)
  }

  createRetainedStreamCombi(patterns: readonly string[]): Readable {
    return this.#memory.createRetainedStreamCombi(patterns)
  }

  async addSubscriptions(client: ClientLike, subscriptions: readonly Subscription[]): Promise<void> {
    this.#hold(client, [...(this.#held.get(client.id)?.values() ?? []), ...subscriptions])
    await this.#memory.addSubscriptions(client, subscriptions)
  }

  async removeSubscriptions(client: ClientLike, topics: readonly string[]): Promise<void> {
    this.#hold(client, [...(this.#held.get(client.id)?.values() ?? [])].filter(({ topic }) => !topics.includes(topic)))
    await this.#memory.removeSubscriptions(client, topics)
  }

  async cleanSubscriptions(client: ClientLike): Promise<void> {
    this.#hold(client, [])
    await this.#memory.cleanSubscriptions(client)
  }

  async subscriptionsByClient(client: ClientLike): Promise<Subscription[]> {
    return [...(this.#held.get(client.id)?.values() ?? [])].map((held) => ({ ...held }))
  }

  async subscriptionsByTopic(topic: string): Promise<(Subscription & { clientId: string })[]> {
    return await this.#memory.subscriptionsByTopic(topic)
  }

  async countOffline(): Promise<{ subsCount: number; clientsCount: number }> {
    return await this.#memory.countOffline()
  }

  getClientList(topic: string): Readable {
    return this.#memory.getClientList(topic)
  }

  async outgoingEnqueue(subscription: { readonly clientId: string }, packet: PacketLike): Promise<void> {
    this.#outgoing.push(subscription.clientId, packetOf(packet))
  }

  async outgoingEnqueueCombi(subscriptions: readonly { readonly clientId: string }[], packet: PacketLike): Promise<void> {
    for (const { clientId } of subscriptions) this.#outgoing.push(clientId, packetOf(packet))
  }

  /** A message gets the identifier that it is sent with, or gives way to the `pubrel` of its exchange. */
  async outgoingUpdate(client: ClientLike, packet: PacketLike): Promise<void> {
    // A `pubrel` has nothing but its identifier, and is no message that another could be compared with.
    const isRelease = packet.cmd === 'pubrel'
    const found = this.#outgoing.find(client.id, ({ brokerId, brokerCounter, messageId }) =>
      isRelease ? messageId === packet.messageId : brokerId !== undefined && brokerId === packet.brokerId && brokerCounter === packet.brokerCounter)
    if (found === undefined) throw new Error('no such packet')
    // The packet in the queue must not have changed where the commit fails.
    this.#outgoing.replace(found, isRelease ? packet : withMessageId(found.packet, packet.messageId))
  }

  /** @returns the packet, where there is one of this identifier */
  async outgoingClearMessageId(client: ClientLike, packet: PacketLike): Promise<PacketLike | undefined> {
    const found = this.#outgoing.find(client.id, ({ messageId }) => messageId === packet.messageId)
    if (found !== undefined) this.#outgoing.remove(found)
    return found?.packet
  }

  outgoingStream(client: ClientLike): Readable {
    return Readable.from(this.#outgoing.packets(client.id))
  }

  async incomingStorePacket(client: ClientLike, packet: PacketLike): Promise<void> {
    const earlier = this.#incoming.find(client.id, ({ messageId }) => messageId === packet.messageId)
    const stored = withMessageId(packetOf(packet), packet.messageId)
    if (earlier === undefined) this.#incoming.push(client.id, stored)
    else this.#incoming.replace(earlier, stored)
  }

  async incomingGetPacket(client: ClientLike, packet: PacketLike): Promise<PacketLike> {
    return this.#incomingOf(client, packet).packet
  }

  async incomingDelPacket(client: ClientLike, packet: PacketLike): Promise<void> {
    this.#incoming.remove(this.#incomingOf(client, packet))
  }

  async cleanIncoming(client: ClientLike): Promise<void> {
    this.#incoming.clear(client.id)
  }

  async putWill(client: ClientLike, packet: PacketLike): Promise<void> {
    this.#wills.commit(keyOf(client.id), { ...copyOf(packet), brokerId: this.broker.id, clientId: client.id })
    await this.#memory.putWill(client, packet)
  }

  async getWill(client: ClientLike): Promise<PacketLike | undefined> {
    return await this.#memory.getWill(client)
  }

  async delWill(client: ClientLike): Promise<PacketLike | undefined> {
    this.#wills.delete(keyOf(client.id))
    return await this.#memory.delWill(client)
  }

  /** Of brokers that are not among these: a failed server's wills are published by whoever has them now. */
  streamWill(brokers: Readonly<Record<string, number>> = {}): Readable {
    return this.#memory.streamWill(brokers)
  }

  /** Leaves what is committed where it is. */
  async destroy(): Promise<void> {
    await this.#memory.destroy()
    for (const forget of this.#forget.splice(0)) forget()
  }

  #incomingOf(client: ClientLike, { messageId }: PacketLike): Queued {
    const found = this.#incoming.find(client.id, (packet) => packet.messageId === messageId)
    if (found === undefined) throw new Error('no such packet')
    return found
  }

  /** Commits them before they are held. Nothing may be awaited since they were read: others of this client may come at once. */
  #hold({ id }: ClientLike, subscriptions: readonly Subscription[]): void {
    const held = byTopic(subscriptions)
    const key = keyOf(id)
    if (held.size === 0) {
      this.#subscriptions.delete(key)
      this.#held.delete(id)
    } else {
      this.#subscriptions.commit(key, { clientId: id, subscriptions: [...held.values()] })
      this.#held.set(id, held)
    }
  }

  async #restoreSubscriptions({ clientId, subscriptions }: Subscribed): Promise<void> {
    this.#held.set(clientId, byTopic(subscriptions))
    await this.#memory.addSubscriptions({ id: clientId }, subscriptions)
  }

  async #restoreWill(stored: PacketLike): Promise<void> {
    const will = restored(stored)
    const { brokerId } = will
    await this.#memory.putWill({ id: will.clientId ?? '' }, will)
    will.brokerId = brokerId
  }

  async #follow<T>(store: SessionStore<T>, take: (value: T) => Promise<unknown>): Promise<void> {
    const takeAll = async (ids: Iterable<string>): Promise<void> => {
      for (const id of ids) {
        const value = store.get(id)
        if (value !== undefined) await take(value)
      }
    }
    const onAdopted = ({ ids }: { readonly ids: readonly string[] }): void => void takeAll(ids).catch((error: unknown) => this.broker.emit?.('error', error))
    await takeAll([...store.ids()])
    store.on('adopted', onAdopted)
    this.#forget.push(() => store.off('adopted', onAdopted))
  }
}

const withMessageId = (packet: PacketLike, messageId: number | undefined): PacketLike => Object.assign(packetOf(packet), packet, { messageId })

/** The last one of each topic, and of it what aedes asks for. */
const byTopic = (subscriptions: readonly Subscription[]): ReadonlyMap<string, Subscription> =>
  new Map(subscriptions.map(({ topic, qos, rh, rap, nl, subscriptionIdentifier }) => [topic, { topic, qos, rh, rap, nl, ...(subscriptionIdentifier === undefined ? {} : { subscriptionIdentifier }) }]))
