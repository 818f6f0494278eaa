/** Tells verdicts to events and logs; those of a subject that flaps are held down, as `flapping.ts` says. */
import { dueUs, isFlapping, onTime, onVerdict, startOver, untold, type FlappingRule, type Telling, type Told } from '../../monitor/flapping.js'
import type { BoxVerdict, Evidence, NodeVerdict } from '../../monitor/verdict.js'

export interface VerdictTellerOptions {
  /** Name of the node. */
  readonly node: string
  readonly rule: FlappingRule
  readonly tell: (verdict: NodeVerdict | BoxVerdict, evidence: Evidence) => void
  readonly nowUs: () => number
  /** `setTimeout`, or simulated time's. Returns what cancels it. */
  readonly after: (us: number, run: () => void) => () => void
}

interface Subject {
  /** Of its server; 0 for the node. */
  readonly generation: number
  readonly state: Telling
  readonly verdict: NodeVerdict | BoxVerdict
  readonly evidence: Evidence
}

/** Most subjects that are remembered: names come from a machine that may write anything. */
const maxSubjects = 512

export class VerdictTeller {
  readonly #options: VerdictTellerOptions
  /** Of servers by their names, so that one that crashes over and over is seen to flap; the node's is ''. */
  readonly #subjects = new Map<string, Subject>()
  readonly #timers = new Map<string, () => void>()

  constructor(options: VerdictTellerOptions) {
    this.#options = options
  }

  /** Names of what flaps: of servers, and the node's own. */
  get flapping(): string[] {
    const nowUs = this.#options.nowUs()
    return [...this.#subjects].flatMap(([name, { state }]) => (isFlapping(state, nowUs, this.#options.rule) ? [name === '' ? this.#options.node : name] : []))
  }

  onVerdict(verdict: NodeVerdict | BoxVerdict, evidence: Evidence): void {
    const { rule, nowUs } = this.#options
    const [name, generation] = 'box' in verdict ? [verdict.name, verdict.generation] : ['', 0]
    const known = this.#subjects.get(name)
    const before = known && known.generation !== generation ? startOver(known.state, nowUs(), rule) : (known?.state ?? untold)
    this.#settle(name, { generation, verdict, evidence }, before, onVerdict(before, verdict.kind, nowUs(), rule))
  }

  close(): void {
    for (const cancel of this.#timers.values()) cancel()
    this.#timers.clear()
  }

  #settle(name: string, subject: Omit<Subject, 'state'>, before: Telling, { state, tell }: Told): void {
    this.#remember(name, { ...subject, state })
    this.#timers.get(name)?.()
    this.#timers.delete(name)
    const { nowUs, after } = this.#options
    const atUs = dueUs(state)
    if (atUs !== undefined) this.#timers.set(name, after(Math.max(0, atUs - nowUs()), () => this.#onTime(name)))
    if (tell) this.#options.tell(subject.verdict, before.held > 0 ? { ...subject.evidence, held: before.held } : subject.evidence)
  }

  #onTime(name: string): void {
    const subject = this.#subjects.get(name)
    if (subject) this.#settle(name, subject, subject.state, onTime(subject.state, this.#options.nowUs(), this.#options.rule))
  }

  #remember(name: string, subject: Subject): void {
    this.#subjects.delete(name)
    this.#subjects.set(name, subject)
    const [oldest] = this.#subjects.keys()
    if (this.#subjects.size <= maxSubjects || oldest === undefined) return
    this.#subjects.delete(oldest)
    this.#timers.get(oldest)?.()
    this.#timers.delete(oldest)
  }
}
