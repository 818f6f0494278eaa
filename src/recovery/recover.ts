/**
 * The recovery of one box or of a whole node: suspected → fenced → claimed → extracted → adopted → announced.
 * Each step can be run again; the claim word in the dead node's memory says how far it came.
 */
import { BackdoorsError, isBackdoorsError } from '../errors.js'
import type { RemoteMemory } from '../fabric/remote-memory.js'
import { claimGeneration, fenceAll, isBefore, nodeGeneration, type ClaimStep, type RecoveryStep } from '../region/control.js'
import type { RegionHeader } from '../region/header.js'
import { readDirectory, readSessions, type ExtractedSession, type Extraction } from '../region/region-reader.js'
import { originKey, type SessionOrigin } from '../region/session-record.js'
import { allSafeguards, type Safeguards } from '../safeguards.js'
import { ClaimHolder, hasBeenExtracted, raiseFence, readClaim, tellExtracted, toldExtracted } from './control-words.js'

export type RecoveryTarget =
  | { readonly kind: 'node' }
  | { readonly kind: 'box'; readonly box: number; readonly generation: number }

/** A session on its way to its new home. */
export interface RecoveredSession extends ExtractedSession {
  /** Where it was found. */
  readonly origin: SessionOrigin
  /** Where it had been before, if it had been adopted there. */
  readonly adoptedFrom: SessionOrigin | undefined
}

export interface AdoptionResult {
  readonly adopted: number
  /** Were here already, from an earlier run of the same recovery. */
  readonly known: number
  /** Found no room: they stay in the dead node's memory. */
  readonly refused: number
}

export interface RecoveryOptions {
  /** The dead node's lent region, on the queue pair that was kept for this. */
  readonly memory: RemoteMemory
  readonly header: RegionHeader
  readonly target: RecoveryTarget
  /** This node's number (1 to 65535) for claim words. */
  readonly recoverer: number
  /** Commits the sessions into this node's own region. They must not be served before `announce` is called. */
  readonly adopt: (sessions: readonly RecoveredSession[]) => Promise<AdoptionResult>
  /** Further fencing, run before the claim. A rejection ends the recovery. */
  readonly fenceExternally?: () => Promise<void>
  /** Lets the sessions be served, and moves the clients here. */
  readonly announce: (report: RecoveryReport) => Promise<void>
  readonly onStep?: (step: RecoveryStep, atMs: number) => void
  /** Milliseconds of any monotonic clock. */
  readonly nowMs: () => number
  /** Waits so many milliseconds. Default: the event loop's timers. */
  readonly pause?: (ms: number) => Promise<void>
  readonly safeguards?: Safeguards
}

export interface RecoveryReport {
  readonly peer: string
  readonly target: RecoveryTarget
  /**
   * `announced`: recovered here. `claimed-by-other`: somebody else does it. `superseded`: the server restarted
   * before the fence and serves its sessions itself. `closed`: there is nothing to recover.
   */
  outcome: 'announced' | 'claimed-by-other' | 'superseded' | 'closed'
  readonly steps: { step: RecoveryStep; atMs: number }[]
  readonly boxes: number[]
  found: number
  adopted: number
  known: number
  refused: number
  expired: number
  /** Entries without any valid version, and sessions of which only an older version was. */
  corrupt: number
  stale: number
  /** RDMA reads and bytes of the extraction. */
  reads: number
  bytes: number
}

/**
 * @throws BackdoorsError what fencing, claiming or reading threw: `MEMORY_LOST` where the dead node's memory could
 * not be reached any more (the cause says how), `CLAIM_LOST`, `FENCE_FAILED`, `ANNOUNCE_FAILED`
 */
export async function recover(options: RecoveryOptions): Promise<RecoveryReport> {
  return new Recovery(options).run()
}

interface ClaimedBox {
  readonly box: number
  readonly claim: ClaimHolder
}

/** A recovery that is this one's to carry out. */
interface Claims {
  /** The claim whose step decides what is still to be done. */
  readonly deciding: ClaimHolder
  readonly boxes: readonly ClaimedBox[]
  /** Boxes of the node that have a recovery of their own, under way or over. */
  readonly others: readonly number[]
}

/** The box of the daemon, which holds what it adopted until a local server has it. */
const daemonBox = 0
/** A recoverer of another box is waited for so long until it has read that box, in milliseconds. */
const othersLimitMs = 1000
const othersStepMs = 10

class Recovery {
  readonly #options: RecoveryOptions
  readonly #safeguards: Safeguards
  readonly #report: RecoveryReport

  constructor(options: RecoveryOptions) {
    this.#options = options
    this.#safeguards = options.safeguards ?? allSafeguards
    this.#report = {
      peer: options.memory.peer, target: options.target, outcome: 'announced', steps: [], boxes: [],
      found: 0, adopted: 0, known: 0, refused: 0, expired: 0, corrupt: 0, stale: 0, reads: 0, bytes: 0,
    }
    this.#step('suspected')
  }

  async run(): Promise<RecoveryReport> {
    const { fenceExternally } = this.#options
    try {
      // A node that was recovered long ago may be kept as it is, to be looked into: it is not fenced once more.
      if (fenceExternally && (await this.#isOver())) return { ...this.#report, outcome: 'claimed-by-other' }
      await fenceExternally?.()
      const claims = await this.#fenceAndClaim()
      if (claims !== undefined) await this.#carryOut(claims)
      return this.#report
    } catch (error) {
      if (isBackdoorsError(error) && (error.code.startsWith('WC_') || error.code === 'TIMEOUT')) {
        throw new BackdoorsError('MEMORY_LOST', `The memory of ${this.#options.memory.peer} was lost during its recovery (${error.code}); what was adopted before stands.`, { peer: this.#options.memory.peer, cause: error })
      }
      throw error
    }
  }

  /** Has another node recovered all of it, and said so? */
  async #isOver(): Promise<boolean> {
    const { memory, target, recoverer } = this.#options
    if (target.kind !== 'node' || !this.#safeguards.claim) return false
    const claim = await readClaim(memory, 'node')
    return claim?.generation === claimGeneration(nodeGeneration) && claim.recoverer !== recoverer && claim.step === 'announced'
  }

  #step(step: RecoveryStep): void {
    const atMs = this.#options.nowMs()
    this.#report.steps.push({ step, atMs })
    this.#options.onStep?.(step, atMs)
  }

  /** @returns the claims held, the deciding one first, or undefined where this recovery is not ours to do */
  async #fenceAndClaim(): Promise<Claims | undefined> {
    const { target } = this.#options
    try {
      return target.kind === 'node' ? await this.#claimNode() : await this.#claimBox(target.box, target.generation)
    } catch (error) {
      if (!isBackdoorsError(error, 'ALREADY_CLAIMED')) throw error
      this.#report.outcome = 'claimed-by-other'
      return undefined
    }
  }

  async #claimNode(): Promise<Claims> {
    const { memory, header } = this.#options
    await raiseFence(memory, 'node', nodeGeneration)
    this.#step('fenced')
    const deciding = await this.#claim('node', nodeGeneration)
    const directory = await readDirectory(memory, header)
    const boxes: ClaimedBox[] = []
    const others: number[] = []
    for (const [box, entry] of directory.entries()) {
      if (entry?.state === 'free' || entry?.state === 'closed') continue
      const claim = await this.#claim(box, entry?.generation ?? fenceAll).catch((error: unknown) => {
        if (isBackdoorsError(error, 'ALREADY_CLAIMED')) return undefined
        throw error
      })
      if (claim && claim.step !== 'announced') boxes.push({ box, claim })
      else others.push(box)
    }
    this.#step('claimed')
    return { deciding, boxes, others }
  }

  async #claimBox(box: number, generation: number): Promise<Claims | undefined> {
    const { memory, header } = this.#options
    const before = (await readDirectory(memory, header))[box]
    if (before?.state === 'closed') return this.#end('closed')
    if (before !== undefined && before.generation !== generation) return this.#end('superseded')
    await raiseFence(memory, box, before === undefined ? fenceAll : generation)
    // Who restarted the server meanwhile either saw the fence, and left the sessions, or shows a new generation.
    const after = (await readDirectory(memory, header))[box]
    if (after !== undefined && after.generation > generation) return this.#end('superseded')
    this.#step('fenced')
    const deciding = await this.#claim(box, before === undefined ? fenceAll : generation)
    this.#step('claimed')
    return { deciding, boxes: [{ box, claim: deciding }], others: [] }
  }

  #end(outcome: RecoveryReport['outcome']): undefined {
    this.#report.outcome = outcome
    return undefined
  }

  #claim(box: number | 'node', generation: number): Promise<ClaimHolder> {
    return ClaimHolder.take(this.#options.memory, box, generation, this.#options.recoverer, this.#safeguards.claim)
  }

  async #carryOut({ deciding, boxes, others }: Claims): Promise<void> {
    this.#report.boxes.push(...boxes.map(({ box }) => box))
    const claims = new Set([...boxes.map(({ claim }) => claim), deciding])
    if (isBefore(deciding.step, 'adopted')) {
      const sessions = await this.#withoutThoseOf(others, await this.#extractOnce(deciding, boxes.map(({ box }) => box)))
      this.#report.found = sessions.length
      await this.#advance(claims, 'extracted')
      const { adopted, known, refused } = await this.#options.adopt(sessions)
      Object.assign(this.#report, { adopted, known, refused })
      await this.#advance(claims, 'adopted')
    }
    if (!isBefore(deciding.step, 'announced')) return
    await this.#options.announce(this.#report)
    // What found no room is still the dead node's alone: a claim that says `announced` would let its memory go.
    if (this.#report.refused === 0) await this.#advance(claims, 'announced')
    else this.#step('announced')
  }

  async #advance(claims: Iterable<ClaimHolder>, step: ClaimStep): Promise<void> {
    for (const claim of claims) if (isBefore(claim.step, step)) await claim.advance(step)
    this.#step(step)
  }

  /**
   * A machine that lives on without this one box has to know what was found in it, for the rest is still its own: that is
   * told once, and kept to if the recovery is run again.
   */
  async #extractOnce(deciding: ClaimHolder, boxes: readonly number[]): Promise<RecoveredSession[]> {
    const { memory, target } = this.#options
    if (target.kind === 'node') return this.#extract(boxes)
    if (!isBefore(deciding.step, 'extracted')) return this.#extract(boxes, await toldExtracted(memory, target.box))
    const sessions = await this.#extract(boxes)
    const highest = sessions.reduce((latest, { sequence }) => Math.max(latest, sequence), 0)
    await tellExtracted(memory, target.box, deciding.generation, highest)
    return sessions
  }

  async #extract(boxes: readonly number[], upTo?: number): Promise<RecoveredSession[]> {
    const { memory, header } = this.#options
    const newest = new Map<string, RecoveredSession>()
    for (const box of boxes) {
      const extraction = await readSessions(memory, header, box, this.#safeguards, upTo)
      this.#count(extraction)
      for (const session of extraction.sessions) {
        const key = `${session.store}\0${session.id}`
        const found: RecoveredSession = { ...session, adoptedFrom: session.origin, origin: { node: header.node, incarnation: header.incarnation, box, sequence: session.sequence } }
        const other = newest.get(key)
        // A session that was being handed from the daemon's box to a server's is in both: the later one counts.
        if (other === undefined || other.committedAtMs <= session.committedAtMs) newest.set(key, found)
      }
    }
    return [...newest.values()]
  }

  /**
   * What the daemon had adopted, and one of its servers had taken over already, stands in that server's box, too. Where that
   * box has a recovery of its own, the session is that one's: the daemon's copy is an older state of it.
   */
  async #withoutThoseOf(others: readonly number[], sessions: RecoveredSession[]): Promise<RecoveredSession[]> {
    const { memory, header } = this.#options
    const servers = others.filter((box) => box !== daemonBox)
    const wasAdopted = sessions.some(({ origin, adoptedFrom }) => origin.box === daemonBox && adoptedFrom !== undefined)
    if (servers.length === 0 || !wasAdopted) return sessions
    const theirs = new Set<string>()
    for (const box of servers) {
      // Where nobody says in time how far that box was read, whatever stands in it is taken for read.
      const upTo = (await this.#untilExtracted(box)) ? await toldExtracted(memory, box) : undefined
      const taken = await readSessions(memory, header, box, this.#safeguards, upTo)
      for (const { origin, store, id } of taken.sessions) if (origin) theirs.add(originKey(origin, store, id))
    }
    return sessions.filter(({ origin, adoptedFrom, store, id }) => origin.box !== daemonBox || adoptedFrom === undefined || !theirs.has(originKey(adoptedFrom, store, id)))
  }

  async #untilExtracted(box: number): Promise<boolean> {
    const { memory, pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms)) } = this.#options
    for (let waitedMs = 0; waitedMs < othersLimitMs; waitedMs += othersStepMs) {
      if (await hasBeenExtracted(memory, box)) return true
      await pause(othersStepMs)
    }
    return false
  }

  #count({ sessions, expired, corrupt, reads, bytes }: Extraction): void {
    this.#report.expired += expired
    this.#report.corrupt += corrupt
    this.#report.stale += sessions.filter(({ stale }) => stale).length
    this.#report.reads += reads
    this.#report.bytes += bytes
  }
}
