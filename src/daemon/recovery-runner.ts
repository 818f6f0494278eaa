/** Carries out recoveries, one at a time: a verdict comes in, a report goes out. */
import type { Logger } from 'pino'
import { BackdoorsError, isBackdoorsError } from '../errors.js'
import { isBefore, nodeGeneration, type RecoveryStep } from '../region/control.js'
import type { RemoteMemory } from '../fabric/remote-memory.js'
import type { RegionHeader } from '../region/header.js'
import { ReadArena } from '../region/read-arena.js'
import { adoptInto } from '../recovery/adopter.js'
import { recover, type RecoveryReport, type RecoveryTarget } from '../recovery/recover.js'
import { lookAtClaim, Successions, type Succession } from '../recovery/succession.js'
import { safeguardsWithout } from '../safeguards.js'
import type { OwnRegion } from './own-region.js'
import type { Addresses } from './addresses/addresses.js'
import { spokenFor, spokenForError } from './addresses/spoken-for.js'
import type { ClaimHolders } from './claim-holders.js'
import type { Connections } from './connections/connections.js'
import { nodeNumber, type DaemonConfig } from './config.js'
import { fenceExternally } from './fencing/external-fencing.js'
import { systemTime, type DaemonTime } from './daemon-time.js'
import { runHook } from './hooks.js'
import type { Handover } from './handover.js'
import type { PeerLink } from './peers/peer-fabric.js'

export interface RecoveryEvents {
  readonly onStep: (peer: string, target: RecoveryTarget, step: RecoveryStep, atMs: number) => void
  readonly onReport: (report: RecoveryReport) => void
  /** A hook or the recovery itself failed; what had been adopted stands. */
  readonly onFailure: (peer: string, target: RecoveryTarget, error: unknown) => void
  readonly log: Logger
}

export interface RecoveryRunnerOptions {
  readonly config: DaemonConfig
  readonly own: Pick<OwnRegion, 'box' | 'fenced' | 'notes' | 'witnesses'>
  readonly handover: Handover
  readonly addresses: Pick<Addresses, 'answered' | 'heldBy' | 'takeOver'>
  /** Undefined where clients' connections are not continued. */
  readonly connections?: Pick<Connections, 'restore'> | undefined
  readonly events: RecoveryEvents
  /** What this node knows of another that holds a claim, by its number in it. */
  readonly claimHolders: Pick<ClaimHolders, 'predecessor' | 'readable'>
  readonly time?: DaemonTime
  /** Default: runs the configured command or agent. */
  readonly fenceExternally?: typeof fenceExternally
}

/** Who answers for addresses: asked when the node is fenced, beside all that is done until they are taken. */
type Answers = ReturnType<Addresses['answered']> | undefined

export class RecoveryRunner {
  readonly #config: DaemonConfig
  readonly #own: RecoveryRunnerOptions['own']
  readonly #handover: Handover
  /** Incarnations whose recovery another node had begun, and may have taken their addresses in. */
  readonly #succeeded = new Set<bigint>()
  readonly #addresses: RecoveryRunnerOptions['addresses']
  readonly #connections: RecoveryRunnerOptions['connections']
  readonly #events: RecoveryEvents
  readonly #time: DaemonTime
  readonly #fenceBy: typeof fenceExternally
  readonly #successions: Successions
  /** One recovery runs at a time: each reads into the memory of the last. */
  readonly #arena = new ReadArena()
  #last: Promise<unknown> = Promise.resolve()

  constructor({ config, own, handover, addresses, connections, events, claimHolders, time = systemTime, fenceExternally: fenceBy = fenceExternally }: RecoveryRunnerOptions) {
    this.#config = config
    this.#own = own
    this.#handover = handover
    this.#addresses = addresses
    this.#connections = connections
    this.#events = events
    this.#time = time
    this.#fenceBy = fenceBy
    const { node, recovery: { takeOverAfterMs } } = config
    this.#successions = new Successions({
      recoverer: nodeNumber(node), notes: own.notes, witnesses: own.witnesses, numberOf: nodeNumber, takeOverAfterMs,
      predecessor: (number) => claimHolders.predecessor(number), readable: (all) => claimHolders.readable(all),
      nowMs: () => time.nowUs() / 1000,
    })
  }

  /** Queues a recovery. Never rejects. @returns its report, or undefined where it failed */
  recover(link: PeerLink, target: RecoveryTarget): Promise<RecoveryReport | undefined> {
    const run = this.#last.then(() => this.#run(link, target))
    this.#last = run
    return run
  }

  /** What has become of a recovery that another node holds. Never rejects. */
  async lookAtClaim({ sampling, header }: PeerLink, target: RecoveryTarget): Promise<Succession> {
    if (this.#own.fenced) return 'leave'
    const { node, incarnation } = header
    const source = { node, incarnation, target: target.kind === 'node' ? 'node' as const : target.box }
    const generation = target.kind === 'node' ? nodeGeneration : target.generation
    // Memory that cannot be read now may be read again: the link tells when it is gone.
    const succession = await lookAtClaim({ memory: sampling, header }, source, generation, (...held) => this.#successions.judge(...held)).catch(() => 'wait' as const)
    if (target.kind === 'node') await this.#bearWitness(sampling, header)
    return succession
  }

  /** Of a node that another one recovers. */
  async #bearWitness(memory: RemoteMemory, header: RegionHeader): Promise<void> {
    try {
      await this.#own.witnesses.read(memory, header)
    } catch (error) {
      this.#events.log.debug({ peer: header.node, err: error }, 'could not read what this peer had under way')
    }
  }

  /** Resolves when all that was queued has ended. */
  async settled(): Promise<void> {
    await this.#last
  }

  async #run(link: PeerLink, target: RecoveryTarget): Promise<RecoveryReport | undefined> {
    const peer = link.header.node
    let answers: Answers
    try {
      if (this.#own.fenced) throw new BackdoorsError('FENCED', `This node has itself been fenced, so it recovers nobody.`, { peer: this.#config.node })
      const memory = await link.forRecovery()
      const report = await recover({
        memory,
        header: link.header,
        target,
        recoverer: nodeNumber(this.#config.node),
        adopt: (sessions) => adoptInto(this.#own.box, sessions),
        fenceExternally: async () => {
          await this.#fenceExternally(peer, target)
          if (target.kind === 'node') answers = this.#addresses.answered(peer)
        },
        announce: (partial) => this.#announce(memory, link, partial, answers),
        onStep: (step, atMs) => this.#events.onStep(peer, target, step, atMs),
        notes: this.#own.notes,
        witnesses: this.#own.witnesses,
        judgeClaim: async (source, claim, atOnce) => {
          const succession = await this.#successions.judge(source, claim, atOnce)
          // Before that nobody has taken an address, and who recovers a single server takes none.
          if (succession === 'take-over' && source.target === 'node' && !isBefore(claim.step, 'adopted')) this.#succeeded.add(link.header.incarnation)
          return succession
        },
        nowMs: () => this.#time.nowUs() / 1000,
        pause: (ms) => this.#time.pause(ms),
        arena: this.#arena,
        safeguards: safeguardsWithout(this.#config.canary),
      })
      this.#events.onReport(report)
      if (report.outcome === 'claimed-by-other' && target.kind === 'node') await this.#bearWitness(memory, link.header)
      return report
    } catch (error) {
      this.#events.onFailure(peer, target, error)
      return undefined
    } finally {
      this.#arena.reset()
    }
  }

  /**
   * Fences a node whose memory cannot be reached, by the configured command alone. There is nothing to recover from it.
   * @throws BackdoorsError FENCE_FAILED; FENCED: this node has itself been fenced, and has no say
   */
  async fenceUnreachable(peer: string): Promise<void> {
    if (this.#own.fenced) throw new BackdoorsError('FENCED', 'This node has itself been fenced, so it fences nobody.', { peer: this.#config.node })
    await this.#runFence(peer)
  }

  async #runFence(peer: string): Promise<void> {
    const { fence } = this.#config.recovery
    if (fence) await this.#fenceBy(fence, peer, this.#events.log)
  }

  async #fenceExternally(peer: string, target: RecoveryTarget): Promise<void> {
    const { fence } = this.#config.recovery
    // A box is one process among healthy ones; a whole machine must not be fenced for it.
    if (fence === undefined || target.kind === 'box') return
    try {
      await this.#runFence(peer)
    } catch (error) {
      if (fence.required) throw error
      this.#events.onFailure(peer, target, error)
    }
  }

  async #announce(memory: RemoteMemory, link: PeerLink, report: RecoveryReport, answers: Answers): Promise<void> {
    const { node, incarnation } = link.header
    this.#handover.release({ node, incarnation, boxes: report.boxes })
    // The machine of a single failed server lives, and keeps its addresses for the others.
    if (report.target.kind === 'node') await this.#takeAddresses(memory, link, answers)
    const { announce } = this.#config.recovery
    if (announce === undefined) return
    const env = { BACKDOORS_FAILED_NODE: report.peer, BACKDOORS_RECOVERER: this.#config.node }
    await runHook('ANNOUNCE_FAILED', { ...announce, input: { ...report, recoverer: this.#config.node }, env })
  }

  /** Connections stand before their address is here: no packet of theirs finds a machine that knows nothing of it. */
  async #takeAddresses(memory: RemoteMemory, link: PeerLink, answers: Answers): Promise<void> {
    const held = await this.#addresses.heldBy(memory, link.header)
    const standing = await this.#connections?.restore(link, held)
    const answered = spokenFor({
      peer: link.header.node, held, answers: (await answers) ?? new Map(), log: this.#events.log,
      isSilenced: this.#config.recovery.fence?.silences === true, isSuccession: this.#succeeded.has(link.header.incarnation),
    })
    try {
      this.#addresses.takeOver(held.filter((each) => !answered.includes(each)))
    } catch (error) {
      // Of those whose address has come, clients find this machine from now on. One that has been fenced speaks for nobody.
      if (isBackdoorsError(error, 'FENCED')) standing?.abandon()
      else await standing?.goOn({ onlyHere: true, answered })
      throw error
    }
    await standing?.goOn({ answered })
    if (answered.length > 0) throw spokenForError(link.header.node, answered)
  }
}
