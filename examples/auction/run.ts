/** The example from its start to its judgement: a database, three application nodes, a front tier, users; and two failures. */
import type { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { cameToBe } from '../../src/cli/demo/came-to-be.js'
import type { ChildEvent } from '../../src/cli/demo/child.js'
import { Cluster } from '../../src/cli/demo/cluster.js'
import { loopback, type DemoNode } from '../../src/cli/demo/demo-node.js'
import { interruptionOf } from '../../src/cli/demo/interruption.js'
import { Observer } from '../../src/cli/demo/observer.js'
import { fittingDeadlineMs } from '../../src/cli/demo/patience.js'
import { shuffled } from '../../src/cli/demo/shuffled.js'
import { styleFor, Timeline, type Style } from '../../src/cli/demo/timeline.js'
import { Random } from '../../src/fabric/mock/random.js'
import { monotonicMs } from '../../src/native/clock.js'
import type { ApplicationArguments } from './application/main.js'
import type { DatabaseArguments } from './database/main.js'
import type { FrontArguments } from './front/main.js'
import { judge, type FinishedStep, type Judgement, type NodeFailure } from './judgement.js'
import type { AuctionOptions } from './options.js'
import { scriptOf, Tier } from './tier.js'
import type { UsersArguments } from './users/main.js'
import type { UsersJudgement } from './users/judgement.js'

const nodeCount = 3
/** A visit with all its lists; two versions of it. */
const bytesPerVisit = 16_384
/** Visits that end without a log-out stay until their time is over; people may come as well. */
const spareVisits = 200
/** Sensors of servers that do database work and render pages on a busy machine. */
const leastDeadlineMs = 300
const meanThinkMs = 400
/** Beyond the users' time, for the start and the end, in milliseconds. */
const overheadMs = 180_000
const recoveryLimitMs = 15_000
/** So long a step is waited for that can be interrupted between its commits, in milliseconds: users may do other things first. */
const holdLimitMs = 20_000
/** A frozen node is woken so long after its visits were recovered, in milliseconds. */
const wakeAfterMs = 700
/** How clients and the front tier take a silent server, in milliseconds. */
const frontTimes = { silenceMs: 1500, patienceMs: 15_000 } as const
const throughFront = { silenceMs: 20_000, patienceMs: 30_000 } as const
const toNodes = { silenceMs: 1500, patienceMs: 30_000 } as const

export interface AuctionIo {
  /** Where the timeline goes. */
  readonly text: Writable & { readonly isTTY?: boolean }
  readonly env: Readonly<Record<string, string | undefined>>
  /** Told the judgement before `keep` serves on. */
  readonly onJudged: (judgement: Judgement, style: Style) => void
}

/**
 * Runs the example. Its processes and folders are gone when this settles, however it does.
 * @throws BackdoorsError where a part does not start or ends by itself, or where time is up
 */
export async function runAuction(options: AuctionOptions, { text, env, onJudged }: AuctionIo): Promise<Judgement> {
  const style = styleFor(text, env)
  const timeline = new Timeline((lines) => void text.write(lines), style)
  const interruption = interruptionOf('auction', options.keep ? undefined : options.seconds * 1000 + overheadMs)
  const auction = new Auction(options, timeline)
  const closeNow = (): void => auction.closeNow()
  process.once('exit', closeNow)
  let judgement: Judgement | undefined
  try {
    judgement = await Promise.race([auction.run(), auction.troubled, interruption.happened])
    timeline.flush()
    onJudged(judgement, style)
    if (options.keep) {
      text.write(`\nThe site is still there: ${auction.url}  (Ctrl-C ends it)\n`)
      await Promise.race([auction.troubled, interruption.happened.catch(() => undefined)])
    }
    return judgement
  } finally {
    await auction.close()
    interruption.forget()
    timeline.close()
    process.removeListener('exit', closeNow)
  }
}

class Auction {
  url = ''
  readonly #options: AuctionOptions
  readonly #timeline: Timeline
  readonly #observer: Observer
  readonly #random: Random
  readonly #tiers: Tier[] = []
  readonly #finished: FinishedStep[] = []
  readonly #trouble: (error: Error) => void
  /** Rejects when a process ends that should run on. */
  readonly troubled: Promise<never>
  #cluster: Cluster | undefined
  #holding: { readonly node: string; readonly key: string; readonly kind: string } | undefined
  #closed = false

  constructor(options: AuctionOptions, timeline: Timeline) {
    this.#options = options
    this.#timeline = timeline
    this.#observer = new Observer(timeline)
    this.#random = new Random(options.seed)
    let reject: (error: Error) => void = () => undefined
    this.troubled = new Promise<never>((_, rejectPromise) => {
      reject = rejectPromise
    })
    this.troubled.catch(() => undefined)
    this.#trouble = reject
  }

  async run(): Promise<Judgement> {
    const { users: count, seconds, direct, seed } = this.#options
    const { database, cluster, front } = await this.#startSite()
    const nodes = cluster.addresses.map(({ host, port }) => ({ host, port }))
    const { hostname, port } = new URL(this.url)
    const argument: UsersArguments = {
      addresses: direct ? nodes : [{ host: hostname, port: Number(port) }], retries: direct ? toNodes : throughFront, users: count, seed, thinkMs: meanThinkMs, database,
    }
    const users = this.#tier('users', argument, (event) => {
      if (event.event === 'finding') this.#timeline.say(event.atMs, 'users', String(event['what']))
    })
    await users.event('working')
    this.#say('users', `all ${count} have logged in, and are at work`)
    const startedMs = monotonicMs()
    const instants = this.#random.fork('instants')
    const [first, ...others] = shuffled(this.#random.fork('nodes'), cluster.nodes) as [DemoNode, DemoNode, DemoNode]
    await this.#pause(startedMs + seconds * 1000 * (0.15 + 0.15 * instants.float()))
    const failed = await this.#fail(first, false)
    // The next is the one that has recovered the first: what it adopted is recovered a second time.
    const second = others.find(({ name }) => name === failed.observations.recovered?.by) ?? others[0]
    await this.#pause(startedMs + seconds * 1000 * (0.5 + 0.15 * instants.float()))
    const failures = [failed, await this.#fail(second, true)]
    await this.#pause(startedMs + seconds * 1000)
    users.tell('stop')
    const judged = (await users.event('judged')) as unknown as UsersJudgement
    front.tell('count')
    const askedAgain = Number((await front.event('counted'))['sentAgain'])
    return judge({ options: this.#options, failures, finished: this.#finished, askedAgain, users: judged })
  }

  /** Ends all processes. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true
    const [database, ...others] = this.#tiers
    // The database last, and in order: the others use it, and it has a folder to remove.
    await Promise.all(others.map((tier) => tier.end()))
    await this.#cluster?.close()
    await database?.close()
  }

  closeNow(): void {
    this.#cluster?.closeNow()
    for (const tier of this.#tiers) tier.closeNow()
  }

  async #startSite(): Promise<{ database: string; cluster: Cluster; front: Tier }> {
    const { users, seed, port, canary } = this.#options
    this.#say('auction', `starts PostgreSQL, ${nodeCount} application nodes and a front tier (seed ${seed})`)
    const accounts: DatabaseArguments = { accounts: Math.max(users, 10), seed }
    const { url } = await this.#tier('database', accounts).event('listening')
    const database = String(url)
    const cluster = new Cluster({
      nodes: nodeCount, sessions: users * 2 + spareVisits, bytesPerSession: bytesPerVisit, canary: undefined,
      server: { script: scriptOf('application'), argument: (given): ApplicationArguments => ({ ...given, deadlineMs: given.deadlineMs ?? leastDeadlineMs, database, ignoresKeys: canary }) },
      onEvent: (...event) => this.#onEvent(...event),
    })
    this.#cluster = cluster
    cluster.troubled.catch((error: unknown) => this.#trouble(error as Error))
    await cluster.startServers(Math.max(leastDeadlineMs, await fittingDeadlineMs(cluster.startDaemons())))
    const argument: FrontArguments = { nodes: cluster.addresses, host: loopback, port, ...frontTimes }
    const front = this.#tier('front', argument)
    this.url = String((await front.event('listening'))['url'])
    this.#say('auction', `is open at ${this.url}`)
    return { database, cluster, front }
  }

  #tier(name: string, argument: object, onEvent?: (event: ChildEvent) => void): Tier {
    const tier = new Tier(name, argument, onEvent)
    this.#tiers.push(tier)
    tier.troubled.catch((error: unknown) => this.#trouble(error as Error))
    return tier
  }

  #onEvent(node: string, process: 'daemon' | 'server', event: ChildEvent): void {
    const text = (field: string): string => String(event[field])
    if (process === 'server' && event.event === 'holding') this.#holding = { node, key: text('key'), kind: text('kind') }
    if (process === 'server' && event.event === 'finished') {
      const wasDone = event['wasDone'] === true
      this.#finished.push({ node, key: text('key'), kind: text('kind'), wasDone })
      this.#timeline.say(event.atMs, `${node} server`, `finishes an interrupted ${text('kind')}: the database ${wasDone ? 'had it already' : 'did not have it yet'}`)
    }
    this.#observer.onEvent(node, process, event)
  }

  /** @param isBetween in the midst of a step: the database has committed it, and the session has not */
  async #fail(node: DemoNode, isBetween: boolean): Promise<NodeFailure> {
    const { failure } = this.#options
    this.#holding = undefined
    if (isBetween) {
      node.tellServer('hold')
      await this.#until(() => this.#holding?.node === node.name, holdLimitMs)
    }
    const between = this.#holding as { readonly key: string; readonly kind: string } | undefined
    const atMs = monotonicMs()
    node.fail(failure)
    this.#timeline.startAt(atMs)
    this.#observer.fail(node.name, atMs)
    this.#timeline.act(atMs, `${failure === 'kill' ? 'kills' : 'freezes'} node ${node.name}${between ? `, which has committed a ${between.kind} to the database, and not yet to its session` : ''}`)
    await this.#until(() => this.#observer.observations.recovered !== undefined, recoveryLimitMs)
    const { observations } = this.#observer
    if (failure === 'stop') {
      await sleep(wakeAfterMs)
      this.#timeline.act(monotonicMs(), `wakes node ${node.name} again`)
      node.wake()
    }
    return { node: node.name, atMs, observations, ...(between ? { between: { key: between.key, kind: between.kind } } : {}) }
  }

  #say(who: string, what: string): void {
    this.#timeline.say(monotonicMs(), who, what)
  }

  async #pause(untilMs: number): Promise<void> {
    await sleep(Math.max(0, untilMs - monotonicMs()))
  }

  /** @returns whether it came to be within the limit */
  #until(condition: () => boolean, limitMs: number): Promise<boolean> {
    return cameToBe(condition, limitMs, () => this.#closed)
  }
}
