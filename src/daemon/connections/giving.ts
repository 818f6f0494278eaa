/** Connections that live on this machine go to the servers that continue them, which say of each what became of it. */
import type { Logger } from 'pino'
import { connectionName, type ResetReason } from '../../recovery/tcp/connection.js'
import type { RestoredSocket } from '../../recovery/tcp/restore.js'
import type { ConnectionOutcome } from '../../servers/restored-connection.js'
import type { DaemonTime } from '../daemon-time.js'
import type { BoxGeneration } from '../offered-sessions.js'
import type { Outcomes } from './report.js'

/** Their sessions come over first, and a server may still be on its way here: for so long at most, in milliseconds. */
const patienceMs = 2000
const lookEveryMs = 2
/** A server that says nothing for so long is not waited for, in milliseconds. */
const answerPatienceMs = 10_000

/** A connection that a server of this machine is to go on with. */
export interface Given {
  readonly name: string
  readonly life: string
  readonly port: number
  readonly read: number
  readonly written: number
  readonly unread: number
  readonly unacknowledged: number
  /** Its descriptor is lent: the server gets a copy. */
  readonly socket: RestoredSocket
}

export interface ContinuingServers {
  /** The server that continues connections to this local port. */
  continuing(port: number): BoxGeneration | undefined
  /** Could it be given some now? */
  isThere(server: BoxGeneration): boolean
  /** Passes copies of their descriptors. @returns those that are on their way to the server; the others it does not get */
  give(server: BoxGeneration, connections: readonly Given[]): readonly Given[]
}

export interface GivingOptions {
  readonly servers: ContinuingServers
  /** Are sessions still on their way to servers? Whoever goes on with a connection needs its own, and the application's. */
  readonly areSessionsUnderWay: () => boolean
  readonly time: DaemonTime
  readonly log: Logger
}

/** Until its server has answered, a connection is open here as well: a server that ends before leaves none that would end like a finished one. */
interface Held {
  readonly server: BoxGeneration
  readonly socket: RestoredSocket
  /** Only the first call counts. */
  readonly settle: (reset: ResetReason | undefined) => void
}

export class Giving {
  readonly #options: GivingOptions
  readonly #held = new Map<string, Held>()

  constructor(options: GivingOptions) {
    this.#options = options
  }

  /** @returns when it is settled what becomes of each, and that is in `outcomes` */
  async give(life: string, connections: readonly RestoredSocket[], outcomes: Outcomes): Promise<void> {
    const { time, areSessionsUnderWay } = this.#options
    const untilUs = time.nowUs() + patienceMs * 1000
    while (areSessionsUnderWay() && time.nowUs() < untilUs) await time.pause(lookEveryMs)
    await Promise.all([...groupBy(connections, ({ connection }) => connection.local.port)].map(([port, group]) => this.#givePort(port, life, group, untilUs, outcomes)))
  }

  onContinued(server: BoxGeneration, outcomes: readonly ConnectionOutcome[]): void {
    for (const { name, reset } of outcomes) {
      const held = this.#held.get(name)
      if (held === undefined || !isSame(held.server, server)) continue
      this.#held.delete(name)
      held.socket.close()
      held.settle(reset)
    }
  }

  /** What it had been given and said nothing of, has nobody. */
  onGone(server: BoxGeneration): void {
    for (const [name, held] of this.#held) if (isSame(held.server, server)) this.#end(name, held)
  }

  /** Lets go of all. */
  close(): void {
    for (const { socket } of this.#held.values()) socket.close()
    this.#held.clear()
  }

  async #givePort(port: number, life: string, group: readonly RestoredSocket[], untilUs: number, outcomes: Outcomes): Promise<void> {
    const { time, servers } = this.#options
    // After a restart of this daemon, servers come back by themselves.
    while (this.#serverOf(port) === undefined && time.nowUs() < untilUs) await time.pause(lookEveryMs)
    const server = this.#serverOf(port)
    if (server === undefined) {
      for (const socket of group) {
        outcomes.add('no-server')
        this.#reset(socket)
      }
      return
    }
    const all = group.map((socket): Given => {
      const { connection: { local, remote, read, written, unread, unacknowledged } } = socket
      return { name: connectionName({ local, remote }), life, port, socket, read, written, unread: unread.length, unacknowledged: unacknowledged.length }
    })
    const answers = all.map(({ name, socket }) => this.#answer(server, name, socket, outcomes))
    const given = new Set(servers.give(server, all))
    for (const each of all) {
      const held = this.#held.get(each.name)
      if (held && !given.has(each)) this.#end(each.name, held)
    }
    await Promise.all(answers)
  }

  #serverOf(port: number): BoxGeneration | undefined {
    const { servers } = this.#options
    const server = servers.continuing(port)
    return server && servers.isThere(server) ? server : undefined
  }

  #answer(server: BoxGeneration, name: string, socket: RestoredSocket, outcomes: Outcomes): Promise<void> {
    // One of another life of the same host, of which its server has never said a word.
    this.#held.get(name)?.socket.close()
    return new Promise((resolve) => {
      let isSettled = false
      const settle = (reset: ResetReason | undefined): void => {
        if (isSettled) return
        isSettled = true
        cancel()
        outcomes.add(reset)
        resolve()
      }
      // It may answer later, and is held until then.
      const cancel = this.#options.time.later(answerPatienceMs, () => settle('no-answer'))
      this.#held.set(name, { server, socket, settle })
    })
  }

  #end(name: string, { socket, settle }: Held): void {
    this.#held.delete(name)
    this.#reset(socket)
    settle('no-server')
  }

  /** Nobody will go on with it: its client is told so. */
  #reset(socket: RestoredSocket): void {
    try {
      socket.reset()
    } catch (error) {
      this.#options.log.warn({ connection: connectionName(socket.connection), err: error }, 'a connection could not be reset')
    }
  }
}

const isSame = (a: BoxGeneration, b: BoxGeneration): boolean => a.box === b.box && a.generation === b.generation

function groupBy<T>(values: readonly T[], keyOf: (value: T) => number): Map<number, T[]> {
  const groups = new Map<number, T[]>()
  for (const value of values) {
    const group = groups.get(keyOf(value))
    if (group) group.push(value)
    else groups.set(keyOf(value), [value])
  }
  return groups
}
