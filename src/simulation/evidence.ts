/** No alive node is fenced without evidence: each verdict that condemns is held against what really happened, and each fence against the verdicts. */
import type { BoxVerdict, NodeVerdict } from '../monitor/verdict.js'
import type { RecoveryTarget } from '../recovery/recover.js'
import type { Daemon } from './daemon.js'
import type { Ledger } from './ledger.js'
import type { RegionLife } from './region-life.js'
import { ms } from './timing.js'

/** From what a sampler saw to the verdict: a round trip or two on a slow link, and the look at the directory. In microseconds. */
const decidingUs = 300 * ms

const condemning: readonly string[] = ['os-stalled', 'os-panicked', 'app-stalled', 'app-exited']

export class EvidenceCheck {
  readonly #ledger: Ledger
  readonly #nowUs: () => number
  readonly #condemned = new WeakMap<Daemon, Set<string>>()
  readonly #condemnedByAny = new Set<string>()

  constructor(ledger: Ledger, nowUs: () => number) {
    this.#ledger = ledger
    this.#nowUs = nowUs
  }

  onVerdict(daemon: Daemon, life: RegionLife, verdict: NodeVerdict | BoxVerdict): void {
    if (!condemning.includes(verdict.kind)) return
    const subject = 'box' in verdict ? `${verdict.box}/${verdict.generation}` : 'node'
    const known = this.#condemned.get(daemon) ?? new Set()
    const key = `${life.header.incarnation}/${subject}`
    this.#condemned.set(daemon, known.add(key))
    this.#condemnedByAny.add(key)
    if (!this.#isTrue(daemon, life, verdict)) this.#ledger.violate('no-evidence', `${daemon.life.host} says that ${life.host} ${subject} is ${verdict.kind} (${verdict.seen}), and that is not so`)
  }

  /** Had anybody come to a verdict that leads to this fence? */
  isCondemned({ header }: RegionLife, box: number | 'node', generation: number): boolean {
    return this.#condemnedByAny.has(`${header.incarnation}/node`) || (box !== 'node' && this.#condemnedByAny.has(`${header.incarnation}/${box}/${generation}`))
  }

  onFenced(daemon: Daemon, life: RegionLife, target: RecoveryTarget): void {
    const subject = target.kind === 'node' ? 'node' : `${target.box}/${target.generation}`
    const known = this.#condemned.get(daemon)
    // A box that another had claimed by itself may fall to who has condemned its whole node.
    if ([subject, 'node'].some((each) => known?.has(`${life.header.incarnation}/${each}`))) return
    this.#ledger.violate('no-evidence', `${daemon.life.host} fenced ${life.host} ${subject}, and had come to no verdict on it`)
  }

  /** A watcher that was itself stopped tells late what it had seen before. */
  #isTrue(daemon: Daemon, life: RegionLife, verdict: NodeVerdict | BoxVerdict): boolean {
    const nowUs = this.#nowUs()
    const { fromUs, untilUs } = daemon.process.lastStop
    const sinceUs = nowUs - untilUs < decidingUs ? fromUs - decidingUs : nowUs - decidingUs
    // What has ended in order does not beat any more, and has not stopped by that.
    if (!('box' in verdict)) return life.osBeats.stoppedSince(sinceUs, life.leftUs ?? nowUs)
    const owner = life.ownerOf(verdict.box, verdict.generation)
    if (owner === undefined) return false
    return verdict.kind === 'app-exited' ? !owner.alive : !owner.alive || owner.beats.stoppedSince(sinceUs, nowUs)
  }
}
