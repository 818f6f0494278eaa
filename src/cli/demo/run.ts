/** The demo from its start to its judgement. */
import type { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { BackdoorsError } from '../../errors.js'
import { Random } from '../../fabric/mock/random.js'
import { monotonicMs } from '../../native/clock.js'
import { audit } from './audit.js'
import { cameToBe } from './came-to-be.js'
import { Cluster } from './cluster.js'
import type { DemoNode } from './demo-node.js'
import { Fleet } from './fleet.js'
import { HalfWriter } from './half-written.js'
import { interruptionOf } from './interruption.js'
import type { Recovery } from './ledger.js'
import { Observer } from './observer.js'
import type { DemoOptions } from './options.js'
import { fittingDeadlineMs, usualDeadlineMs } from './patience.js'
import { shuffled } from './shuffled.js'
import { judge, type Judgement } from './summary.js'
import { styleFor, Timeline, type Style } from './timeline.js'

/** The whole demo takes no longer, in milliseconds; its stages have limits of their own. */
const overallMs = 60_000
/** With a safeguard switched off, servers that are merely slow must not be taken for dead: their recovery can undo the damage. */
const canaryDeadlineMs = 400
const warmUpMs = 800
const warmUpLimitMs = 20_000
/** The failure comes up to so much later than the warm-up's end, in milliseconds. */
const failureSpreadMs = 300
const recoveryLimitMs = 5000
const wokenLimitMs = 3000
/** The node is woken up to so much after the recovery, in milliseconds: before its clients give it up, or after. */
const wakingSpreadMs = 600
/** Load after the last client is served again, in milliseconds. */
const afterMs = 300
const leastHalfWritten = 3
const halfWrittenShare = 0.01

export interface DemoIo {
  /** Where the timeline and the summary go. */
  readonly text: Writable & { readonly isTTY?: boolean }
  readonly env: Readonly<Record<string, string | undefined>>
}

/**
 * Runs the demo. Its processes and its folder are gone when this settles, however it does.
 * @throws BackdoorsError where a process of the demo does not start or ends by itself, or where time is up
 */
export async function runDemo(options: DemoOptions, { text, env }: DemoIo): Promise<{ judgement: Judgement; style: Style }> {
  const style = styleFor(text, env)
  const timeline = new Timeline((lines) => void text.write(lines), style)
  const observer = new Observer(timeline)
  const { nodes, sessions, canary } = options
  // Before there is anything that could be left behind.
  const interruption = interruptionOf('demo', overallMs)
  let cluster: Cluster
  try {
    cluster = new Cluster({ nodes, sessions, canary, onEvent: (...event) => observer.onEvent(...event) })
  } catch (error) {
    interruption.forget()
    throw error
  }
  const closeNow = (): void => cluster.closeNow()
  process.once('exit', closeNow)
  const demo = new Demo(options, cluster, observer, timeline)
  try {
    return { judgement: await Promise.race([demo.run(), interruption.happened, cluster.troubled]), style }
  } finally {
    interruption.forget()
    demo.close()
    timeline.close()
    await cluster.close()
    process.removeListener('exit', closeNow)
  }
}

class Demo {
  readonly #options: DemoOptions
  readonly #cluster: Cluster
  readonly #observer: Observer
  readonly #timeline: Timeline
  readonly #random: Random
  #fleet: Fleet | undefined
  #closed = false

  constructor(options: DemoOptions, cluster: Cluster, observer: Observer, timeline: Timeline) {
    this.#options = options
    this.#cluster = cluster
    this.#observer = observer
    this.#timeline = timeline
    this.#random = new Random(options.seed)
  }

  async run(): Promise<Judgement> {
    const { failure, nodes, sessions, seed } = this.#options
    this.#timeline.act(monotonicMs(), `starts ${nodes} nodes, each a daemon and a server, and ${sessions} clients with a session each (seed ${seed})`)
    await this.#startCluster()
    const fleet = new Fleet({
      servers: this.#cluster.addresses, sessions, random: this.#random.fork('clients'), nowMs: monotonicMs,
      onServedAgain: (...again) => this.#tellServedAgain(...again),
    })
    this.#fleet = fleet
    fleet.start()
    if (!(await this.#until(() => fleet.haveAll(2), warmUpLimitMs))) {
      throw new BackdoorsError('TIMEOUT', `The demo's clients were not all served within ${warmUpLimitMs} ms: this machine is too busy for it.`)
    }
    const node = await this.#chooseNode(fleet)
    const failed = this.#fail(node, fleet)
    await this.#until(() => this.#observer.observations.recovered !== undefined, recoveryLimitMs)
    const woken = failure === 'stop' ? await this.#wake(node, fleet) : undefined
    // A woken node that acknowledges has spoilt it already: what it serves, nobody else needs to.
    await this.#until(() => fleet.areServedAgain || fleet.countedAnswers.acknowledged > 0, recoveryLimitMs)
    await sleep(afterMs)
    await fleet.stop()
    await audit({ servers: this.#cluster.addresses, ledgers: fleet.ledgers, movements: () => this.#observer.movements })
    return judge({ options: this.#options, failedNode: node.name, ...failed, ledgers: fleet.ledgers, observations: this.#observer.observations, longestWaitMs: fleet.longestWaitMs, woken })
  }

  /**
   * One that serves sessions, while nothing else goes on: on a busy machine a node may have been taken for failed before,
   * and its sessions are elsewhere, or on their way. So every client has to be served anew, and no session to move meanwhile.
   */
  async #chooseNode(fleet: Fleet): Promise<DemoNode> {
    const instant = this.#random.fork('instant')
    const deadlineMs = monotonicMs() + warmUpLimitMs
    let isSteady = false
    while (!isSteady && monotonicMs() < deadlineMs) {
      const before = this.#observer.movements
      const acknowledged = fleet.acknowledged()
      await sleep(warmUpMs + instant.float() * failureSpreadMs)
      const areServed = await this.#until(() => fleet.acknowledged().every((count, i) => count > (acknowledged[i] ?? 0)), recoveryLimitMs)
      isSteady = areServed && this.#observer.movements === before
    }
    const order = shuffled(this.#random.fork('node'), this.#cluster.nodes)
    return order.find(({ name }) => fleet.servedBy(name) > 0) ?? (order[0] as DemoNode)
  }

  async #startCluster(): Promise<void> {
    const fittingMs = await fittingDeadlineMs(this.#cluster.startDaemons())
    const deadlineMs = this.#options.canary ? Math.max(fittingMs, canaryDeadlineMs) : fittingMs
    if (deadlineMs > usualDeadlineMs) {
      const why = fittingMs > usualDeadlineMs ? 'this machine is busy' : 'no hiccup shall hide what the canary does'
      this.#timeline.act(monotonicMs(), `lets a server count as stalled after ${deadlineMs} ms instead of ${usualDeadlineMs}: ${why}`)
    }
    await this.#cluster.startServers(deadlineMs)
  }

  close(): void {
    this.#closed = true
    this.#fleet?.close()
  }

  #fail(node: DemoNode, fleet: Fleet): { failedAtMs: number; halfWritten: string[] } {
    const { failure } = this.#options
    const count = Math.max(leastHalfWritten, Math.ceil(fleet.servedBy(node.name) * halfWrittenShare))
    const halfWriter = new HalfWriter(node.region, count, this.#random.fork('half-written'))
    const failedAtMs = monotonicMs()
    node.fail(failure)
    const halfWritten = halfWriter.plant()
    const plantedAtMs = monotonicMs()
    const served = fleet.fail(node.name).length
    this.#timeline.startAt(failedAtMs)
    this.#observer.fail(node.name, failedAtMs)
    this.#timeline.act(failedAtMs, `${failure === 'kill' ? 'kills' : 'freezes'} node ${node.name}, which serves ${served} sessions`)
    this.#timeline.act(plantedAtMs, `leaves ${halfWritten.length} half-written commits in its memory`)
    return { failedAtMs, halfWritten }
  }

  /** The node comes back to what it was doing, and to all requests that were sent to it meanwhile. */
  async #wake(node: DemoNode, fleet: Fleet): Promise<{ refused: number; acknowledged: number }> {
    await sleep(this.#random.fork('waking').float() * wakingSpreadMs)
    this.#timeline.act(monotonicMs(), `wakes node ${node.name} again: ${fleet.unansweredBy(node.name)} requests are waiting for its answer`)
    fleet.countAnswersOf(node.name)
    node.wake()
    await this.#until(() => fleet.unansweredBy(node.name) === 0, wokenLimitMs)
    const answers = fleet.countedAnswers
    this.#timeline.say(monotonicMs(), 'clients', `have ${answers.refused} requests refused by ${node.name}, ${answers.acknowledged} acknowledged`)
    return answers
  }

  #tellServedAgain(session: string, { by, atMs }: Recovery, position: number, count: number): void {
    if (position === 1) this.#timeline.say(atMs, 'clients', `the first is served again (${session} by ${by})`)
    if (position === count) this.#timeline.say(atMs, 'clients', `the last of ${count} is served again (${session} by ${by})`)
  }

  /** @returns whether it came to be within the limit */
  #until(condition: () => boolean, limitMs: number): Promise<boolean> {
    return cameToBe(condition, limitMs, () => this.#closed)
  }
}
