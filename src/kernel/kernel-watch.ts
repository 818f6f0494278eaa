/** Watches a host by its kernel's own variables: no cooperation of the host is needed, and a panic is seen as such. */
import { BackdoorsError } from '../errors.js'
import type { RemoteMemory, Watch, WatchEvent } from '../fabric/remote-memory.js'
import { judge } from '../monitor/judge.js'
import type { ControlConnection, Evidence, NodeVerdict, ObservedKernel } from '../monitor/verdict.js'
import type { KernelImage } from './kernel-image.js'
import { judgePulse } from './views/judge-pulse.js'
import { decodePanicState, judgePanic, panicRanges, type PanicState } from './views/panic-state.js'
import { PulseReader, type Pulse } from './views/pulse.js'
import type { VirtualRange } from './virtual-range.js'

export interface KernelWatchOptions {
  /** The watcher's own name, for evidence. */
  readonly by: string
  readonly image: KernelImage
  /** The lent memory under the image, for the sampler. */
  readonly memory: Pick<RemoteMemory, 'watch'>
  /** How often `panic_cpu` is sampled. */
  readonly intervalUs: number
  readonly unreachableAfterUs: number
  /** How often the kernel's progress is read, in milliseconds. */
  readonly refreshMs: number
  /** A kernel that has to move and has not for so long is stalled. */
  readonly deadlineUs: number
  /** @param knownForUs how long ago reads were found to fail; undefined where they succeed */
  readonly controlConnection: (knownForUs: number | undefined) => ControlConnection
  /** The watcher's monotonic clock. */
  readonly nowUs: () => number
  readonly every: (ms: number, run: () => void) => () => void
  readonly onVerdict: (verdict: NodeVerdict, evidence: Evidence) => void
  readonly onTrouble: (error: unknown) => void
}

const panicCell = 0
/** While the other CPUs of a kernel that panics are stopping, which takes it as long as printing why it does. */
const looksPerInterval = 20

export class KernelWatch {
  readonly #options: KernelWatchOptions
  #pulses: PulseReader | undefined
  /** What tells that it has panicked: worked out while it lives. */
  #panicRanges: readonly VirtualRange[] | undefined
  #earlier: Pulse[] = []
  #kernel: ObservedKernel = {}
  #unreachable: { readonly status: string; readonly atUs: number } | undefined
  #watch: Watch | undefined
  #stopTimer: (() => void) | undefined
  /** Runs from the moment that somebody panics until all others are seen stopped. */
  #stopHurry: (() => void) | undefined
  /** When `panic_cpu` was first seen set. */
  #panicSinceUs: number | undefined
  #looking: Promise<ObservedKernel | undefined> | undefined
  #verdict: NodeVerdict = { kind: 'alive', seen: 'nothing yet' }
  #closed = false

  constructor(options: KernelWatchOptions) {
    this.#options = options
  }

  get verdict(): NodeVerdict {
    return this.#verdict
  }

  /** @throws BackdoorsError KERNEL_UNSUPPORTED where this kernel has no `panic_cpu`, NOT_MAPPED, and what reading throws */
  async start(): Promise<void> {
    const { image, memory, intervalUs, unreachableAfterUs, refreshMs, every } = this.#options
    const offset = await offsetOf(image, 'panic_cpu')
    this.#pulses = await PulseReader.prepare(image)
    if (this.#closed) return
    // The cell is past its deadline at once, as nobody panics; what counts is that it moves after that.
    const plan = { cells: [{ counterOffset: offset, deadlineUs: intervalUs }], intervalUs, unreachableAfterUs }
    this.#watch = memory.watch(plan, (event) => this.#onEvent(event))
    this.#stopTimer = every(refreshMs, () => void this.look())
    await this.look()
  }

  /**
   * Reads the kernel's state and judges. Runs one at a time. Never rejects: what cannot be read is told.
   * @returns what it saw; undefined where it could not read, or does not: while reads are known to fail, and once closed
   */
  look(): Promise<ObservedKernel | undefined> {
    return (this.#looking ??= this.#look().finally(() => (this.#looking = undefined)))
  }

  /** Idempotent. No verdict is told afterwards. */
  close(): void {
    this.#closed = true
    this.#watch?.close()
    this.#stopTimer?.()
    this.#stopHurry?.()
  }

  #onEvent(event: WatchEvent): void {
    if (this.#closed) return
    if (event.kind === 'unreachable') {
      this.#unreachable = { status: event.status, atUs: event.atUs }
      this.#judge()
    } else if (event.kind === 'reachable') {
      this.#unreachable = undefined
      this.#earlier = []
    } else if (event.kind === 'moved' && event.cell === panicCell) {
      // A look that is under way may have read before this.
      void (this.#looking ?? Promise.resolve()).then(() => this.look())
    }
  }

  async #look(): Promise<ObservedKernel | undefined> {
    const { image, nowUs, onTrouble } = this.#options
    try {
      const seen = this.#closed || this.#unreachable ? undefined : await this.#observe(nowUs())
      // What was seen before stands while nothing can be read.
      this.#kernel = seen ?? this.#kernel
      this.#judge()
      return seen
    } catch (error) {
      // The page tables of a kernel that lives may have changed since they were read.
      image.memory.forget()
      onTrouble(error)
      return undefined
    }
  }

  /** What was seen of a panic stands, whether or not more can be seen. */
  async #observe(atUs: number): Promise<ObservedKernel> {
    return this.#observePanic(await this.#readPanicState(this.#options.image), atUs) ?? (await this.#observePulse())
  }

  /** @returns undefined where it has not panicked for sure */
  #observePanic(state: PanicState, atUs: number): ObservedKernel | undefined {
    this.#panicSinceUs = state.panicCpu === undefined ? undefined : (this.#panicSinceUs ?? atUs)
    const panicked = judgePanic(state, atUs - (this.#panicSinceUs ?? atUs), this.#options.deadlineUs)
    this.#hurry(state.panicCpu !== undefined && panicked === undefined)
    return panicked === undefined ? undefined : { panicked }
  }

  async #readPanicState(image: KernelImage): Promise<PanicState> {
    this.#panicRanges ??= panicRanges(image)
    return decodePanicState(image, await image.memory.readMany(this.#panicRanges))
  }

  /** The other CPUs stop at any moment now: it is looked more often than `panic_cpu` is sampled. */
  #hurry(isNeeded: boolean): void {
    if (!isNeeded) this.#stopHurry?.()
    if (isNeeded && this.#stopHurry === undefined && !this.#closed) this.#stopHurry = this.#options.every(Math.max(1, this.#options.intervalUs / 1000 / looksPerInterval), () => void this.look())
    else if (!isNeeded) this.#stopHurry = undefined
  }

  /** It may panic between the look for that and the pulse, which shows it as well. */
  async #observePulse(): Promise<ObservedKernel> {
    const { deadlineUs, nowUs } = this.#options
    const pulse = await (this.#pulses as PulseReader).read(nowUs)
    const panicked = this.#observePanic(pulse.panic, pulse.atUs)
    if (panicked !== undefined) return panicked
    const judged = judgePulse([...this.#earlier, pulse], { nowUs: nowUs(), deadlineUs })
    this.#earlier = judged.history
    return judged.kind === 'stalled' ? { stalled: judged.seen } : { moves: judged.seen }
  }

  #judge(): void {
    if (this.#closed) return
    const { nowUs, controlConnection } = this.#options
    const unreachable = this.#unreachable
    const control = controlConnection(unreachable && nowUs() - unreachable.atUs)
    const status = unreachable ? { status: unreachable.status } : {}
    const judgement = judge({ reachable: !unreachable, ...status, control, osSensor: undefined, boxes: [], kernel: this.#kernel })
    if (!judgement || judgement.node.kind === this.#verdict.kind) return
    this.#verdict = judgement.node
    this.#options.onVerdict(judgement.node, { by: this.#options.by, atUs: nowUs(), seen: judgement.node.seen })
  }
}

/** Where a variable lies in the lent memory. */
async function offsetOf(image: KernelImage, symbol: string): Promise<number> {
  const address = image.addressOf(symbol)
  const [translation] = await image.memory.translate([address])
  const found = translation && 'physical' in translation ? image.physical.locate({ physical: translation.physical, length: 4 }) : undefined
  if (found?.[0]) return found[0].offset
  throw new BackdoorsError('NOT_MAPPED', `${symbol} of ${image.peer}, at 0x${address.toString(16)}, is not mapped, or not lent.`, { peer: image.peer, address, length: 4 })
}
