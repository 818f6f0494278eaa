/** How a server process joins its machine's region: `attach`, then sensors and session stores. */
import { EventEmitter } from 'node:events'
import { basename } from 'node:path'
import { BackdoorsError } from '../errors.js'
import { monotonicMs } from '../native/clock.js'
import { BoxOwner } from '../region/box-owner.js'
import { openRegion, type Region } from '../region/region.js'
import type { SensorHandle } from '../region/sensor-handle.js'
import type { Safeguards } from '../safeguards.js'
import { ConnectionsLink } from './connections-link.js'
import { messagePackCodec } from './codec.js'
import { DaemonLink } from './daemon-link.js'
import { leastSensorsForLoopDelay, LoopDelay, loopDelaySensor } from './loop-delay.js'
import type { OnRestored } from './restored-connection.js'
import { SessionStore, type SessionStoreOptions } from './session-store.js'

export interface AttachOptions {
  /** Path of the region that this machine's daemon lends. */
  readonly region: string
  /** Name of this server on its machine; a restarted server finds its sessions by it. Default: the script's name. */
  readonly name?: string
  /** For demonstrations only: switches a safeguard off. */
  readonly safeguards?: Safeguards
}

export interface SensorOptions {
  /** The sensor has stalled when it has not moved for so long while work is pending. */
  readonly deadlineMs: number
  /**
   * Beat from the event loop so often, in milliseconds. Default for a sensor named `event-loop`: a fifth of its
   * deadline; for others: never by itself.
   */
  readonly everyMs?: number
}

/** How often sessions past their time to live are dropped, in milliseconds. */
const sweepEveryMs = 10_000

/**
 * Joins the region as a server.
 * @throws BackdoorsError REGION_NOT_FOUND (is the daemon running?), REGION_CORRUPT, LAYOUT_UNSUPPORTED,
 * BOX_IN_USE, BOXES_EXHAUSTED, FENCED
 *
 * @example
 * const node = await attach({ region: '/dev/shm/backdoors-a' })
 * const beat = node.sensor('event-loop', { deadlineMs: 50 })
 * const carts = node.sessions<Cart>('carts')
 * node.once('fenced', () => process.exit(1))
 */
export async function attach(options: AttachOptions): Promise<AttachedNode> {
  const region = openRegion(options.region)
  try {
    const name = options.name ?? basename(process.argv[1] ?? 'server').replace(/\.[^.]*$/, '')
    const safeguards = options.safeguards === undefined ? {} : { safeguards: options.safeguards }
    const owner = BoxOwner.take(region, { name, ...safeguards })
    return new AttachedNode(region, owner)
  } catch (error) {
    region.memory.close()
    throw error
  }
}

export class AttachedNode extends EventEmitter<{
  /** This server has been fenced: another node serves its sessions. Stop serving. Emitted once. */
  fenced: [BackdoorsError]
}> {
  readonly #region: Region
  readonly #owner: BoxOwner
  readonly #link: DaemonLink
  readonly #connections: ConnectionsLink
  readonly #stores = new Map<string, SessionStore<never>>()
  readonly #timers: NodeJS.Timeout[] = []
  #toldFenced = false
  #closed = false

  /** Use `attach`. */
  constructor(region: Region, owner: BoxOwner) {
    super()
    this.#region = region
    this.#owner = owner
    this.#link = new DaemonLink(region, owner, (store, adopted) => this.#stores.get(store)?.emit('adopted', adopted), () => this.#connections.daemonIsThere())
    this.#connections = new ConnectionsLink(region, owner, (outcomes) => this.#link.continued(outcomes))
    this.#every(sweepEveryMs, () => this.#unlessFenced(() => owner.sessions.sweep()))
  }

  /** Name of the machine, as its region's header has it. */
  get name(): string {
    return this.#region.header.node
  }

  /** Of the region's header: another after each start of the machine's daemon. */
  get incarnation(): bigint {
    return this.#region.header.incarnation
  }

  get fenced(): boolean {
    return this.#owner.fenced
  }

  /**
   * A counter that has to move. With `event-loop` comes the gauge `loop-delay-ms`, past its limit at half of the deadline, where the
   * box has room for eight sensors or more.
   * @throws BackdoorsError SENSORS_EXHAUSTED, INVALID_ARGUMENT
   */
  sensor(name: string, options: SensorOptions): SensorHandle {
    if (!(options.deadlineMs > 0)) throw new BackdoorsError('INVALID_ARGUMENT', `deadlineMs of sensor ${name} must be a positive number of milliseconds.`, { field: 'deadlineMs' })
    const sensor = this.#owner.sensor({ name, kind: 'progress', deadlineUs: Math.round(options.deadlineMs * 1000) })
    const everyMs = options.everyMs ?? (name === 'event-loop' ? options.deadlineMs / 5 : undefined)
    if (everyMs !== undefined) {
      sensor.beat()
      const delay = name === 'event-loop' ? this.#loopDelay(everyMs, options.deadlineMs / 2) : undefined
      this.#every(everyMs, () => {
        delay?.beat(monotonicMs())
        if (!sensor.beat()) this.#tellFenced()
      })
    }
    return sensor
  }

  /** A value with a limit: memory in use, a queue's length. @param kind `pressure` for one that says how much work waits */
  gauge(name: string, kind: 'level' | 'pressure' = 'level'): SensorHandle {
    return this.#owner.sensor({ name, kind, deadlineUs: 0 })
  }

  /** The store of this name, made at the first call. Sessions that an earlier life of this server left are in it. */
  sessions<T>(name: string, options: SessionStoreOptions<T> = {}): SessionStore<T> {
    const known = this.#stores.get(name)
    if (known) return known
    const store = new SessionStore<T>(this.#owner, name, options.codec ?? messagePackCodec<T>(), options)
    this.#stores.set(name, store as unknown as SessionStore<never>)
    this.#tellDaemon()
    return store
  }

  /**
   * From now on connections to this local port that a failed server had are given to `handler`, once the sessions of their stores have
   * come over. `continuable` does this for a server.
   * @returns how to end it
   * @throws BackdoorsError INVALID_ARGUMENT where the port has a handler, or is none
   */
  onRestored(port: number, handler: OnRestored): () => void {
    const end = this.#connections.onRestored(port, handler)
    this.#tellDaemon()
    return () => {
      end()
      this.#tellDaemon()
    }
  }

  /** An orderly end: the box is closed and nobody recovers it; a restarted server finds its sessions. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    for (const timer of this.#timers) clearInterval(timer)
    this.#connections.close()
    await this.#link.close()
    this.#owner.close()
    this.#region.memory.close()
  }

  #tellDaemon(): void {
    if (!this.#closed) this.#link.serve([...this.#stores.keys()], this.#connections.ports)
  }

  #loopDelay(everyMs: number, limitMs: number): LoopDelay | undefined {
    if (this.#region.header.plan.sensorsPerBox < leastSensorsForLoopDelay) return undefined
    return new LoopDelay(this.gauge(loopDelaySensor, 'pressure'), { everyMs, limitMs, nowMs: monotonicMs() })
  }

  #every(ms: number, run: () => void): void {
    this.#timers.push(setInterval(run, ms).unref())
  }

  #unlessFenced(run: () => void): void {
    if (this.#owner.fenced) this.#tellFenced()
    else run()
  }

  #tellFenced(): void {
    if (this.#toldFenced) return
    this.#toldFenced = true
    try {
      this.#owner.checkFence()
    } catch (error) {
      this.emit('fenced', error as BackdoorsError)
    }
  }
}
