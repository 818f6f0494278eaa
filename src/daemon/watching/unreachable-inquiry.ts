/**
 * What follows when a peer answers nothing: the other nodes are asked, the verdict is told as what it comes to, and where that is
 * allowed the peer is fenced from outside. Asked again for as long as it lasts: a cut link may hide that the node dies later.
 */
import { isSeenStopped, mayFenceUnreachable, refineUnreachable, type Opinion, type SecondOpinion } from '../../monitor/second-opinion.js'
import type { Evidence, NodeVerdict } from '../../monitor/verdict.js'

export interface UnreachableInquiryOptions {
  readonly peer: string
  /** Undefined on a fabric by which nobody can be asked. */
  readonly observers: SecondOpinion | undefined
  /** How many nodes the cluster has beside this one and the peer; undefined where that is not known (yet). */
  readonly others: () => number | undefined
  /** A verdict stands, and is to be told. */
  readonly conclude: (verdict: NodeVerdict, evidence: Evidence) => void
  /** Fences the peer from outside. Rejects where that failed. Undefined where it is not wanted. */
  readonly fence: (() => Promise<void>) | undefined
  /** It has been fenced, or that failed. */
  readonly onFenced: (opinions: readonly Opinion[], error: unknown) => void
  readonly after: (us: number, run: () => void) => () => void
}

/** In microseconds. Where somebody could not say yet, sooner. */
const askAgainUs = 5_000_000
const askUndecidedAgainUs = 500_000

interface Inquiry {
  readonly verdict: NodeVerdict
  readonly evidence: Evidence
  hasAnswers: boolean
  isSeenStopped: boolean
  cancel: (() => void) | undefined
  fencing: 'not yet' | 'under way' | 'done'
}

export class UnreachableInquiry {
  readonly #options: UnreachableInquiryOptions
  /** Of the node's present silence. */
  #inquiry: Inquiry | undefined
  readonly #fencing = new Set<Promise<void>>()

  #closed = false

  constructor(options: UnreachableInquiryOptions) {
    this.#options = options
  }

  /** The node does not answer, and what others see is not known yet: it may be the way to it. */
  get isAsking(): boolean {
    return this.#inquiry?.hasAnswers === false
  }

  /** The node does not answer here, and others that reach it say that it has stopped. */
  get isSeenStopped(): boolean {
    return this.#inquiry?.isSeenStopped === true
  }

  /** Every verdict on the node comes by here; all but `unreachable` stand as they are, and end what was asked. */
  follow(verdict: NodeVerdict, evidence: Evidence): void {
    this.#stop()
    if (this.#closed) return
    if (verdict.kind !== 'unreachable') return this.#options.conclude(verdict, evidence)
    const inquiry: Inquiry = { verdict, evidence, hasAnswers: false, isSeenStopped: false, cancel: undefined, fencing: 'not yet' }
    this.#inquiry = inquiry
    const { observers, peer } = this.#options
    if (observers) void observers.ask(peer).then((opinions) => this.#onOpinions(inquiry, opinions))
    else this.#onOpinions(inquiry, [])
  }

  /** A fencing that is under way is waited for. */
  async close(): Promise<void> {
    this.#closed = true
    this.#stop()
    await Promise.all(this.#fencing)
  }

  #stop(): void {
    this.#inquiry?.cancel?.()
    this.#inquiry = undefined
  }

  #onOpinions(inquiry: Inquiry, opinions: readonly Opinion[]): void {
    // It answers again, or is another machine by now.
    if (this.#inquiry !== inquiry) return
    const { conclude, others, observers, peer, after } = this.#options
    inquiry.hasAnswers = true
    inquiry.isSeenStopped = isSeenStopped(opinions)
    const refined = refineUnreachable(inquiry.verdict, opinions)
    conclude(refined, { ...inquiry.evidence, seen: refined.seen, opinions })
    if (this.#inquiry !== inquiry) return
    if (inquiry.fencing === 'not yet' && mayFenceUnreachable(opinions, others())) this.#fence(inquiry, opinions)
    const isUndecided = opinions.some(({ sees }) => sees === 'undecided')
    inquiry.cancel = after(isUndecided ? askUndecidedAgainUs : askAgainUs, () => {
      if (observers) void observers.ask(peer).then((later) => this.#onOpinions(inquiry, later))
      else this.#onOpinions(inquiry, [])
    })
  }

  /** Once for each silence; a fencing that failed is tried again when others have been asked again. */
  #fence(inquiry: Inquiry, opinions: readonly Opinion[]): void {
    const { fence, onFenced } = this.#options
    if (!fence) return
    inquiry.fencing = 'under way'
    const run = fence().then(
      () => {
        inquiry.fencing = 'done'
        onFenced(opinions, undefined)
      },
      (error: unknown) => {
        inquiry.fencing = 'not yet'
        onFenced(opinions, error)
      },
    )
    this.#fencing.add(run)
    void run.finally(() => this.#fencing.delete(run))
  }
}
