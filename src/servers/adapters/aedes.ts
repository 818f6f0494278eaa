/**
 * A persistence for aedes, an MQTT broker: what a client that comes back is owed (subscriptions, messages of QoS 1 and 2, wills) and
 * retained messages, in sessions of this server. A change is committed before aedes is told that it was made.
 */
import { Readable } from 'node:stream'
import { asBackdoorsError, isBackdoorsError, type BackdoorsError } from '../../errors.js'
import type { AttachedNode } from '../attach.js'
import type { SessionStore } from '../session-store.js'
import { checkRetained, checkSubscribed, checkWill } from './mqtt-checks.js'
import { copyOf, keyOf, memoryIndex, packetOf, restored, type BrokerLike, type ClientLike, type PacketLike, type Subscription } from './mqtt-records.js'
import { PacketQueues, type Queued } from './packet-queues.js'
import { takeUp } from './take-up.js'

export interface BackdoorsPersistenceOptions {
  /** Its stores' names begin with this. Default `mqtt`. */
  readonly name?: string
  /** Is told what came over, or was there, and is not what this adapter commits. Default: a warning of the process. */
  readonly onError?: (error: BackdoorsError) => void
}

interface Subscribed {
  readonly clientId: string
  readonly subscriptions: readonly Subscription[]
}

/**
 * Errors are those of `SessionStore`: aedes ends the connection of the client that it was at work for. Where one is FENCED or CLOSED, this
 * cuts the connections of all clients, because aedes would answer in spite of some; their wills are another node's to publish.
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
  /** The incoming record of a message that is being published, by its payload: aedes hands that on as it is. */
  readonly #publishing = new WeakMap<object, Queued>()
  readonly #node: AttachedNode
  readonly #onError: (error: BackdoorsError) => void
  readonly #onFenced = (): void => this.#cut()
  readonly #forget: (() => void)[] = []

  constructor(node: AttachedNode, { name = 'mqtt', onError = (error) => process.emitWarning(error) }: BackdoorsPersistenceOptions = {}) {
    this.#node = node
    this.#onError = onError
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
    this.#node.on('fenced', this.#onFenced)
    this.#forget.push(
      () => this.#node.off('fenced', this.#onFenced),
      await takeUp(this.#retained, { take: (packet, id) => this.#restoreRetained(packet, id), onError: this.#onError }),
      await takeUp(this.#subscriptions, { take: (subscribed, id) => this.#restoreSubscriptions(subscribed, id), onError: this.#onError }),
      await takeUp(this.#wills, { take: (will, id) => this.#restoreWill(will, id), onError: this.#onError }),
      await this.#outgoing.follow(this.#onError),
      await this.#incoming.follow(this.#onError),
    )
  }

  async storeRetained(packet: PacketLike): Promise<void> {
    await this.#serving(undefined, () => this.#publishingStep(packet, () => {
      const key = keyOf(packet.topic ?? '')
      if ((packet.payload?.length ?? 0) === 0) this.#retained.delete(key)
      else this.#retained.commit(key, copyOf(packet))
      return this.#memory.storeRetained(packet)
    }))
  }

  createRetainedStream(pattern: string): Readable {
    return this.#streamed(() => this.#memory.createRetainedStream(pattern), noPackets)
  }

  createRetainedStreamCombi(patterns: readonly string[]): Readable {
    return this.#streamed(() => this.#memory.createRetainedStreamCombi(patterns), noPackets)
  }

  async addSubscriptions(client: ClientLike, subscriptions: readonly Subscription[]): Promise<void> {
    await this.#serving(client, () => {
      this.#hold(client, [...this.#heldBy(client), ...subscriptions])
      return this.#memory.addSubscriptions(client, subscriptions)
    })
  }

  async removeSubscriptions(client: ClientLike, topics: readonly string[]): Promise<void> {
    await this.#serving(client, () => {
      this.#hold(client, this.#heldBy(client).filter(({ topic }) => !topics.includes(topic)))
      return this.#memory.removeSubscriptions(client, topics)
    })
  }

  async cleanSubscriptions(client: ClientLike): Promise<void> {
    await this.#serving(client, () => {
      this.#hold(client, [])
      return this.#memory.cleanSubscriptions(client)
    })
  }

  async subscriptionsByClient(client: ClientLike): Promise<Subscription[]> {
    return await this.#serving(client, () => this.#heldBy(client).map((held) => ({ ...held })))
  }

  /** Even where fenced: `outgoingEnqueueCombi`, which follows, refuses then, and here aedes would take a refusal for the end of the broker. */
  async subscriptionsByTopic(topic: string): Promise<(Subscription & { clientId: string })[]> {
    return await this.#memory.subscriptionsByTopic(topic)
  }

  async countOffline(): Promise<{ subsCount: number; clientsCount: number }> {
    return await this.#serving(undefined, () => this.#memory.countOffline())
  }

  getClientList(topic: string): Readable {
    return this.#streamed(() => this.#memory.getClientList(topic), failing)
  }

  async outgoingEnqueue({ clientId }: { readonly clientId: string }, packet: PacketLike): Promise<void> {
    await this.outgoingEnqueueCombi([{ clientId }], packet)
  }

  /** For all of them, or none. */
  async outgoingEnqueueCombi(subscriptions: readonly { readonly clientId: string }[], packet: PacketLike): Promise<void> {
    await this.#serving(undefined, () => this.#publishingStep(packet, () => this.#outgoing.pushAll(subscriptions.map(({ clientId }) => clientId), packet)))
  }

  /** A message gets the identifier that it is sent with, or gives way to the `pubrel` of its exchange. */
  async outgoingUpdate(client: ClientLike, packet: PacketLike): Promise<void> {
    await this.#serving(client, () => {
      // A `pubrel` has nothing but its identifier, and is no message that another could be compared with.
      const isRelease = packet.cmd === 'pubrel'
      const found = this.#outgoing.find(client.id, ({ brokerId, brokerCounter, messageId }) =>
        isRelease ? messageId === packet.messageId : brokerId !== undefined && brokerId === packet.brokerId && brokerCounter === packet.brokerCounter)
      if (found === undefined) throw new Error('no such packet')
      // The packet in the queue must not have changed where the commit fails.
      this.#outgoing.replace(found, isRelease ? packet : withMessageId(found.packet, packet.messageId))
    })
  }

  /** @returns the packet, where there is one of this identifier */
  async outgoingClearMessageId(client: ClientLike, packet: PacketLike): Promise<PacketLike | undefined> {
    return await this.#serving(client, () => {
      const found = this.#outgoing.find(client.id, ({ messageId }) => messageId === packet.messageId)
      if (found !== undefined) this.#outgoing.remove(found)
      return found?.packet
    })
  }

  outgoingStream(client: ClientLike): Readable {
    return this.#streamed(() => Readable.from(this.#outgoing.packets(client.id)), failing, client)
  }

  async incomingStorePacket(client: ClientLike, packet: PacketLike): Promise<void> {
    await this.#serving(client, () => {
      const earlier = this.#incoming.find(client.id, ({ messageId }) => messageId === packet.messageId)
      const stored = withMessageId(packetOf(packet), packet.messageId)
      if (earlier !== undefined) this.#incoming.replace(earlier, stored)
      const kept = earlier ?? this.#incoming.push(client.id, stored)
      if (typeof packet.payload === 'object') this.#publishing.set(packet.payload, kept)
    })
  }

  async incomingGetPacket(client: ClientLike, packet: PacketLike): Promise<PacketLike> {
    return await this.#serving(client, () => this.#incomingOf(client, packet).packet)
  }

  async incomingDelPacket(client: ClientLike, packet: PacketLike): Promise<void> {
    await this.#serving(client, () => this.#incoming.remove(this.#incomingOf(client, packet)))
  }

  async cleanIncoming(client: ClientLike): Promise<void> {
    await this.#serving(client, () => this.#incoming.clear(client.id))
  }

  async putWill(client: ClientLike, packet: PacketLike): Promise<void> {
    await this.#serving(client, () => {
      this.#wills.commit(keyOf(client.id), { ...copyOf(packet), brokerId: this.broker.id, clientId: client.id })
      return this.#memory.putWill(client, packet)
    })
  }

  async getWill(client: ClientLike): Promise<PacketLike | undefined> {
    return await this.#serving(client, () => this.#memory.getWill(client))
  }

  /** Cuts off its client where the will cannot be deleted: nobody catches what aedes gets from here, so that the process would end. */
  async delWill(client: ClientLike): Promise<PacketLike | undefined> {
    try {
      return await this.#serving(undefined, () => {
        this.#wills.delete(keyOf(client.id))
        return this.#memory.delWill(client)
      })
    } catch (error) {
      if (!isBackdoorsError(error, 'FENCED', 'CLOSED')) this.#onError(asBackdoorsError(error, 'RECORD_CORRUPT', `The will of ${client.id}`))
      cutOff(client)
      return undefined
    }
  }

  /** Of brokers that are not among these: a failed server's wills are published by whoever has them now. */
  streamWill(brokers: Readonly<Record<string, number>> = {}): Readable {
    return this.#streamed(() => this.#memory.streamWill(brokers), noPackets)
  }

  /** Leaves what is committed where it is. */
  async destroy(): Promise<void> {
    await this.#memory.destroy()
    for (const forget of this.#forget.splice(0)) forget()
  }

  /**
   * What another node serves by now must not be answered from here, be it only read.
   * @throws BackdoorsError FENCED, CLOSED: every client is cut off by then
   */
  async #serving<T>(client: ClientLike | undefined, run: () => T | Promise<T>): Promise<T> {
    try {
      this.#retained.checkFence()
      return await run()
    } catch (error) {
      if (isBackdoorsError(error, 'FENCED', 'CLOSED')) this.#cut(client)
      throw error
    }
  }

  /** @param otherwise instead, where it may not be answered: a throw would be caught by nobody */
  #streamed(make: () => Readable, otherwise: (error: unknown) => Readable, client?: ClientLike): Readable {
    try {
      this.#retained.checkFence()
      return make()
    } catch (error) {
      this.#cut(client)
      return otherwise(error)
    }
  }

  /** @param client one that aedes may not know yet */
  #cut(client?: ClientLike): void {
    if (client !== undefined) cutOff(client)
    for (const each of Object.values(this.broker?.clients ?? {})) cutOff(each)
  }

  /** What fails was not published: its sender's repetition must not be taken for one that was. */
  #publishingStep<T>({ payload }: PacketLike, run: () => T): T {
    try {
      return run()
    } catch (error) {
      const incoming = typeof payload === 'object' ? this.#publishing.get(payload) : undefined
      if (incoming !== undefined) this.#incoming.remove(incoming)
      throw error
    }
  }

  #incomingOf(client: ClientLike, { messageId }: PacketLike): Queued {
    const found = this.#incoming.find(client.id, (packet) => packet.messageId === messageId)
    if (found === undefined) throw new Error('no such packet')
    return found
  }

  #heldBy({ id }: ClientLike): Subscription[] {
    return [...(this.#held.get(id)?.values() ?? [])]
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

  async #restoreRetained(packet: PacketLike, id: string): Promise<void> {
    checkRetained(packet, id)
    await this.#memory.storeRetained(restored(packet))
  }

  async #restoreSubscriptions(subscribed: Subscribed, id: string): Promise<void> {
    checkSubscribed(subscribed, id)
    const { clientId, subscriptions } = subscribed
    this.#held.set(clientId, byTopic(subscriptions))
    await this.#memory.addSubscriptions({ id: clientId }, subscriptions)
  }

  /** As memory's own `putWill`, which would take the broker that runs now for the will's. */
  async #restoreWill(stored: PacketLike, id: string): Promise<void> {
    checkWill(stored, id)
    const will = restored(stored)
    const { brokerId } = will
    await this.#memory.putWill({ id: will.clientId ?? '' }, will)
    will.brokerId = brokerId
  }
}

/** Where aedes would take an error for its own end. */
const noPackets = (): Readable => Readable.from([])
const failing = (error: unknown): Readable => new Readable({ objectMode: true, read() { this.destroy(error as Error) } })

function cutOff(client: ClientLike): void {
  // Or aedes would publish it when the connection is closed.
  client.will = null
  client.conn?.destroy()
}

const withMessageId = (packet: PacketLike, messageId: number | undefined): PacketLike => Object.assign(packetOf(packet), packet, { messageId })

/** The last one of each topic, and of it what aedes asks for. */
const byTopic = (subscriptions: readonly Subscription[]): ReadonlyMap<string, Subscription> =>
  new Map(subscriptions.map(({ topic, qos, rh, rap, nl, subscriptionIdentifier }) => [topic, { topic, qos, rh, rap, nl, ...(subscriptionIdentifier === undefined ? {} : { subscriptionIdentifier }) }]))
