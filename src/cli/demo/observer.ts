/** Turns what the nodes' processes say into the timeline's lines, and keeps what the summary tells of it. */
import type { ObservedSensor } from '../../monitor/verdict.js'
import type { RecoveryReport } from '../../recovery/recover.js'
import type { ChildEvent } from './child.js'
import type { Timeline } from './timeline.js'

export interface Observations {
  /** The first verdict on the failed node that was not `alive`. Times are CLOCK_MONOTONIC in milliseconds. */
  readonly detected?: { readonly by: string; readonly atMs: number; readonly verdict: string }
  /** When the last recovery of the failed node that brought sessions was announced. */
  readonly recovered?: { readonly by: string; readonly atMs: number; readonly sessions: number }
}

interface VerdictEvent {
  readonly peer: string
  readonly verdict: string
  readonly seen: string
  readonly server?: string
  readonly sensor?: ObservedSensor
}

/** Events of processes between which a session may be on its way. */
const movingEvents = new Set(['step', 'taken', 'adopted', 'fenced', 'serving'])

const stepWords: Readonly<Record<string, string>> = {
  fenced: 'fences %: nothing that it still does is acknowledged',
  claimed: 'claims % by one compare-and-swap in its memory',
  extracted: 'has read the sessions out of %\'s memory',
  adopted: 'has adopted them into its own memory',
  announced: 'announces that it serves them now',
}

export class Observer {
  readonly #timeline: Timeline
  #failed: { readonly node: string; readonly atMs: number } | undefined
  #observations: Observations = {}
  #movements = 0
  /** Nodes whose server has started once. */
  readonly #started = new Set<string>()

  constructor(timeline: Timeline) {
    this.#timeline = timeline
  }

  get observations(): Observations {
    return this.#observations
  }

  /** Recoveries and handovers so far, step by step. */
  get movements(): number {
    return this.#movements
  }

  /** From now on this is the node that matters; what was observed of another is forgotten. */
  fail(node: string, atMs: number): void {
    this.#observations = {}
    this.#failed = { node, atMs }
  }

  onEvent(node: string, process: 'daemon' | 'server', event: ChildEvent): void {
    const { atMs } = event
    const say = (what: string, detail?: string): void => this.#timeline.say(atMs, process === 'server' ? `${node} server` : node, what, detail)
    if (movingEvents.has(event.event)) this.#movements++
    switch (event.event) {
      case 'verdict':
        return this.#onVerdict(node, atMs, event as ChildEvent & VerdictEvent)
      case 'step': {
        const words = stepWords[String(event['step'])]
        if (words) say(words.replace('%', whatOf(event as unknown as Pick<RecoveryReport, 'peer' | 'target'>)))
        return
      }
      case 'recovered':
        return this.#onReport(node, event as ChildEvent & RecoveryReport)
      case 'failed':
        return say(`does not recover ${String(event['peer'])}`, (event['error'] as { message?: string } | undefined)?.message)
      case 'adopted':
        return say(`takes ${String(event['count'])} sessions of ${String(event['from'])} over, and serves them`)
      case 'serving':
        if (this.#started.has(node)) say(`starts again; counts as stalled after ${String(event['deadlineMs'])} ms`)
        this.#started.add(node)
        return
      case 'fenced':
        return say(process === 'server' ? 'finds itself fenced, and stops serving' : 'finds itself fenced')
      default:
    }
  }

  #onVerdict(by: string, atMs: number, { peer, verdict, seen, server, sensor }: ChildEvent & VerdictEvent): void {
    const isFirst = this.#failed?.node === peer && verdict !== 'alive' && this.#observations.detected === undefined
    if (isFirst) this.#observations = { ...this.#observations, detected: { by, atMs, verdict } }
    if (isFirst && sensor) this.#timeline.say(atMs - sensor.ageUs / 1000, by, `sees ${sensor.name} of ${peer} move for the last time`)
    this.#timeline.say(atMs, by, `${verdict === 'alive' ? 'finds' : 'suspects'} ${peer}${server ? `'s server ${server}` : ''}: ${verdict}`, seen)
  }

  #onReport(by: string, report: ChildEvent & RecoveryReport): void {
    if (report.outcome === 'claimed-by-other') return this.#timeline.say(report.atMs, by, `leaves ${whatOf(report)} to the one that claimed it first`)
    const sessions = report.adopted + report.known
    const read = `${report.found} sessions found in ${report.reads} reads of ${Math.round(report.bytes / 1024)} KiB, ${sessions} adopted, ${report.refused} refused`
    this.#timeline.say(report.atMs, by, `ends its recovery of ${whatOf(report)} (${report.outcome})`, read)
    const announced = report.steps.find(({ step }) => step === 'announced')
    const isIt = report.peer === this.#failed?.node && announced !== undefined && announced.atMs > this.#failed.atMs && sessions > 0
    if (isIt) this.#observations = { ...this.#observations, recovered: { by, atMs: announced.atMs, sessions } }
  }
}

const whatOf = ({ peer, target }: Pick<RecoveryReport, 'peer' | 'target'>): string => (target.kind === 'node' ? `node ${peer}` : `box ${target.box} of node ${peer}`)
