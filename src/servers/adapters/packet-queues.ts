/** Packets in order for each client: one record for each, so that a long queue costs no more to add to than a short one. */
import { randomBytes } from 'node:crypto'
import type { BackdoorsError } from '../../errors.js'
import type { SessionStore } from '../session-store.js'
import { checkPacket } from './mqtt-checks.js'
import { copyOf, keyOf, packetOf, restored, type PacketLike } from './mqtt-records.js'
import { takeUp } from './take-up.js'

export interface QueuedRecord {
  readonly clientId: string
  /** Of the queues that it was put into, so that what comes over from another server stands beside what is here. */
  readonly origin: string
  /** Higher than those of all that was there when it was put in: it orders origins. */
  readonly epoch: number
  /** In the order of their coming to that origin. */
  readonly number: number
  readonly packet: PacketLike
}

export type Queued = Omit<QueuedRecord, 'packet'> & { packet: PacketLike }

export class PacketQueues {
  readonly #store: SessionStore<QueuedRecord>
  readonly #queues = new Map<string, Queued[]>()
  readonly #own = randomBytes(6).toString('base64url')
  #epoch = 1
  #last = 0

  constructor(store: SessionStore<QueuedRecord>) {
    this.#store = store
  }

  /** Takes up what is there, and what comes over. @returns what ends that */
  async follow(onError: (error: BackdoorsError) => void): Promise<() => void> {
    const changed = new Set<Queued[]>()
    const taken = (): void => {
      for (const queue of changed) queue.sort(inOrder)
      changed.clear()
    }
    return await takeUp(this.#store, { take: (record, id) => void changed.add(this.#take(record, id)), taken, onError })
  }

  /** Into all of these clients' queues, or none. */
  pushAll(clientIds: readonly string[], packet: PacketLike): void {
    const pushed: Queued[] = []
    try {
      for (const clientId of clientIds) pushed.push(this.push(clientId, packetOf(packet)))
    } catch (error) {
      for (const queued of pushed) this.remove(queued)
      throw error
    }
  }

  push(clientId: string, packet: PacketLike): Queued {
    const queued = { clientId, origin: this.#own, epoch: this.#epoch, number: this.#last + 1, packet }
    this.#commit(queued)
    this.#last++
    const queue = this.#queues.get(clientId)
    if (queue) queue.push(queued)
    else this.#queues.set(clientId, [queued])
    return queued
  }

  replace(queued: Queued, packet: PacketLike): void {
    this.#commit({ ...queued, packet })
    queued.packet = packet
  }

  remove(queued: Queued): void {
    this.#store.delete(recordId(queued))
    const queue = this.#queues.get(queued.clientId) ?? []
    const at = queue.indexOf(queued)
    if (at >= 0) queue.splice(at, 1)
    if (queue.length === 0) this.#queues.delete(queued.clientId)
  }

  clear(clientId: string): void {
    for (const queued of [...(this.#queues.get(clientId) ?? [])]) this.remove(queued)
  }

  find(clientId: string, matches: (packet: PacketLike) => boolean): Queued | undefined {
    return this.#queues.get(clientId)?.find(({ packet }) => matches(packet))
  }

  /** As they are now: a list of its own. */
  packets(clientId: string): PacketLike[] {
    return (this.#queues.get(clientId) ?? []).map(({ packet }) => packet)
  }

  #commit(queued: QueuedRecord): void {
    this.#store.commit(recordId(queued), { ...queued, packet: copyOf(queued.packet) })
  }

  /** @returns the queue, which has to be put in order */
  #take(record: QueuedRecord, id: string): Queued[] {
    const { clientId, origin, epoch, number, packet } = record
    if (typeof origin !== 'string' || !isPosition(epoch) || !isPosition(number) || id !== recordId(record)) throw new TypeError('it has no place in a queue')
    checkPacket(packet)
    this.#epoch = Math.max(this.#epoch, Math.min(epoch + 1, Number.MAX_SAFE_INTEGER))
    const queue = this.#queues.get(clientId) ?? []
    this.#queues.set(clientId, queue)
    queue.push({ clientId, origin, epoch, number, packet: restored(packet) })
    return queue
  }
}

const isPosition = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 1

/** Two servers that filled a client's queues at the same time are told apart by their origins alone. */
const inOrder = (a: Queued, b: Queued): number => a.epoch - b.epoch || Number(a.origin > b.origin) - Number(a.origin < b.origin) || a.number - b.number

const recordId = ({ clientId, origin, number }: QueuedRecord): string => `${keyOf(clientId)}/${origin}.${number.toString(36)}`
