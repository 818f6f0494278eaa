/**
 * The recovery of one box or of a whole node: suspected → fenced → claimed → extracted → adopted → announced.
 * Each step can be run again; the claim word in the dead node's memory says how far it came.
 */
import { BackdoorsError, isBackdoorsError } from '../errors.js'
import { claimGeneration, fenceAll, isBefore, nodeGeneration, type Claim, type ClaimStep, type RecoveryStep } from '../region/control.js'
import { daemonBox } from '../region/layout.js'
import { readDirectory, readSessions, type ExtractedSession, type Extraction } from '../region/region-reader.js'
import { originKey } from '../region/session-record.js'
import { allSafeguards, type Safeguards } from '../safeguards.js'
import { corruptNotesIn, damagedNotesIn, isDraft, noteStore, type AdoptionSource } from './adoption-notes.js'
import { ClaimHolder, hasBeenExtracted, noSuccession, raiseFence, readClaim, tellExtracted, toldExtracted } from './control-words.js'
import type { RecoveredSession, RecoveryOptions, RecoveryReport } from './recovery.js'
import { decodeWritten, nothingWritten, type Written } from './witness.js'

export type { AdoptionResult, RecoveredSession, RecoveryOptions, RecoveryReport, RecoveryTarget } from './recovery.js'

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

/** A recoverer of another box is waited for so long until it has read that box, in milliseconds. */
const othersLimitMs = 1000
const othersStepMs = 10
/** A recoverer shows so often that it is at work, in milliseconds. */
export const touchEveryMs = 1000

const isNote = ({ store }: ExtractedSession): boolean => store === noteStore

/** What a daemon's box says of recoveries; other boxes have no say in that. */
const writtenIn = (box: number, sessions: readonly ExtractedSession[]): Written => (box === daemonBox ? decodeWritten(sessions.filter(isNote).map(({ payload }) => payload)) : nothingWritten)

/** What a box holds, less its notes, and what those call drafts: that is still where it came from. */
const withoutDrafts = ({ notes }: Written, sessions: readonly ExtractedSession[]): ExtractedSession[] => sessions.filter((session) => !isNote(session) && !isDraft(notes, session))

class Recovery {
  readonly #options: RecoveryOptions
  /** By box: the highest sequence that was found there. */
  readonly #highest = new Map<number, number>()
  #written: Written = nothingWritten
  #stopTouching: () => void = () => undefined
  readonly #safeguards: Safeguards
  readonly #report: RecoveryReport

  constructor(options: RecoveryOptions) {
    this.#options = options
    this.#safeguards = options.safeguards ?? allSafeguards
    this.#report = {
      peer: options.memory.peer, target: options.target, outcome: 'announced', steps: [], boxes: [], unsettled: [], inherited: [],
      found: 0, adopted: 0, known: 0, refused: 0, expired: 0, corrupt: 0, stale: 0, damagedNotes: 0, reads: 0, bytes: 0,
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
    } finally {
      this.#stopTouching()
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
      if (!isBackdoorsError(error, 'ALREADY_CLAIMED', 'CLAIM_UNSETTLED')) throw error
      if (error.code === 'CLAIM_UNSETTLED') this.#report.unsettled.push(target)
      this.#report.outcome = 'claimed-by-other'
      return undefined
    }
  }

  async #claimNode(): Promise<Claims> {
    const { memory, header } = this.#options
    await raiseFence(memory, 'node', nodeGeneration)
    this.#step('fenced')
    const deciding = await this.#claim('node', nodeGeneration)
    this.#keepTouching(deciding)
    const directory = await readDirectory(memory, header)
    const boxes: ClaimedBox[] = []
    const others: number[] = []
    for (const [box, entry] of directory.entries()) {
      if (entry?.state === 'free' || entry?.state === 'closed') continue
      const claim = await this.#claimUnlessOthers(box, entry?.generation ?? fenceAll)
      // One that had been recovered here by itself, before the node failed, is no part of this recovery.
      const isOver = claim === undefined || claim.step === 'announced' || (isBefore(deciding.step, 'adopted') && !isBefore(claim.step, 'adopted'))
      if (isOver) others.push(box)
      else boxes.push({ box, claim })
    }
    this.#step('claimed')
    return { deciding, boxes, others }
  }

  /** Who has the node's claim takes over whatever of its boxes is not adopted yet: that costs nobody anything. */
  async #claimUnlessOthers(box: number, generation: number): Promise<ClaimHolder | undefined> {
    try {
      return await this.#claim(box, generation, true)
    } catch (error) {
      if (!isBackdoorsError(error, 'ALREADY_CLAIMED', 'CLAIM_UNSETTLED')) throw error
      if (error.code === 'CLAIM_UNSETTLED') this.#report.unsettled.push({ kind: 'box', box, generation })
      return undefined
    }
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
    this.#keepTouching(deciding)
    this.#step('claimed')
    return { deciding, boxes: [{ box, claim: deciding }], others: [] }
  }

  #end(outcome: RecoveryReport['outcome']): undefined {
    this.#report.outcome = outcome
    return undefined
  }

  /** @param ofNode is it a box of a node whose claim is this one's? */
  #claim(box: number | 'node', generation: number, ofNode = false): Promise<ClaimHolder> {
    const { memory, recoverer, judgeClaim } = this.#options
    const judge = judgeClaim ? (held: Claim) => judgeClaim({ ...this.#source, target: box }, held, ofNode) : noSuccession(recoverer)
    return ClaimHolder.take(memory, box, generation, { recoverer, judge, obeyed: this.#safeguards.claim })
  }

  get #source(): AdoptionSource {
    const { header: { node, incarnation }, target } = this.#options
    return { node, incarnation, target: target.kind === 'node' ? 'node' : target.box }
  }

  async #carryOut(claims: Claims): Promise<void> {
    const { deciding, boxes } = claims
    const { notes, announce } = this.#options
    this.#report.boxes.push(...boxes.map(({ box }) => box))
    const held = [...new Set([deciding, ...boxes.map(({ claim }) => claim)])]
    try {
      if (isBefore(deciding.step, 'adopted')) await this.#adopt(claims, held)
      // From here on it is this node's; until that is written down, it must not be seen to be.
      notes?.confirm(this.#source, this.#report.refused === 0)
      if (!isBefore(deciding.step, 'announced')) return
      await announce(this.#report)
      // What found no room, or may still fall to somebody, is the dead node's alone: a claim that says `announced` would let its memory go.
      const isIncomplete = this.#report.refused > 0 || notes?.find(this.#source)?.state === 'incomplete'
      if (isIncomplete || this.#report.unsettled.length > 0) return this.#step('announced')
      // The deciding claim is the last: the memory may go when it is announced.
      await this.#advance(held.reverse(), 'announced')
      notes?.forget(this.#source)
    } catch (error) {
      if (isBackdoorsError(error, 'CLAIM_LOST')) notes?.giveUp(this.#source)
      throw error
    }
  }

  /** However long a step takes, the claim moves meanwhile. */
  #keepTouching(claim: ClaimHolder): void {
    let isOver = false
    this.#stopTouching = () => void (isOver = true)
    const touch = async (): Promise<void> => {
      while (!isOver) {
        await this.#pause(touchEveryMs)
        if (!isOver) await claim.touch()
      }
    }
    void touch()
  }

  #pause(ms: number): Promise<void> {
    const { pause = (wait: number) => new Promise<void>((resolve) => setTimeout(resolve, wait).unref()) } = this.#options
    return pause(ms)
  }

  async #adopt({ deciding, boxes, others }: Claims, held: readonly ClaimHolder[]): Promise<void> {
    const { adopt, header, witnesses } = this.#options
    const sessions = await this.#withoutThoseOf(others, await this.#extractOnce(deciding, boxes))
    this.#report.found = sessions.length
    await this.#advance(held, 'extracted')
    // From here on everybody finds in it what was found now; and once it is adopted, nobody may come to read it any more.
    witnesses?.bear(header, this.#written)
    if (this.#hasRoomToNote(deciding, boxes)) Object.assign(this.#report, await adopt(sessions))
    else this.#report.refused = sessions.length
    // The deciding claim is the first: no other says `adopted` unless it does.
    await this.#advance(held, 'adopted')
  }

  /** Where not even a note finds room, no session would: that is told as it is of sessions. */
  #hasRoomToNote({ holding }: ClaimHolder, boxes: readonly ClaimedBox[]): boolean {
    try {
      this.#options.notes?.begin({ ...this.#source, holding, boxes: boxes.map(({ box, claim }) => ({ box, holding: claim.holding })) })
      return true
    } catch (error) {
      if (isBackdoorsError(error, 'BOX_FULL')) return false
      throw error
    }
  }

  async #advance(claims: readonly ClaimHolder[], step: ClaimStep): Promise<void> {
    for (const claim of claims) if (isBefore(claim.step, step)) await claim.advance(step)
    this.#step(step)
  }

  /**
   * A machine that lives on without this one box has to know what was found in it, for the rest is still its own; and who succeeds a
   * node in what it recovered has to know what was found in the box of its daemon. That is told once, and kept to if the
   * recovery is run again, by whomever.
   */
  async #extractOnce(deciding: ClaimHolder, boxes: readonly ClaimedBox[]): Promise<RecoveredSession[]> {
    const { memory, target } = this.#options
    const told = target.kind === 'box' ? { box: target.box, claim: deciding } : boxes.find(({ box }) => box === daemonBox)
    const numbers = boxes.map(({ box }) => box)
    if (told === undefined) return this.#extract(numbers)
    // Nothing was told of a box that was claimed with its whole node.
    const sequence = isBefore(told.claim.step, 'extracted') ? 0 : await toldExtracted(memory, told.box)
    if (sequence > 0) return this.#extract(numbers, { box: told.box, sequence })
    await raiseFence(memory, told.box, told.claim.generation)
    const sessions = await this.#extract(numbers)
    await tellExtracted(memory, told.box, told.claim.generation, this.#highest.get(told.box) ?? 0)
    return sessions
  }

  /** @param upTo for one of the boxes: how far it was read before */
  async #extract(boxes: readonly number[], upTo?: { readonly box: number; readonly sequence: number }): Promise<RecoveredSession[]> {
    const { memory, header, arena } = this.#options
    const newest = new Map<string, RecoveredSession>()
    for (const box of boxes) {
      const extraction = await readSessions(memory, header, box, this.#safeguards, upTo?.box === box ? upTo.sequence : undefined, arena)
      this.#count(extraction)
      this.#highest.set(box, extraction.sessions.reduce((latest, { sequence }) => Math.max(latest, sequence), 0))
      const written = writtenIn(box, extraction.sessions)
      if (box === daemonBox) this.#written = written
      for (const session of withoutDrafts(written, extraction.sessions)) {
        const key = `${session.store}\0${session.id}`
        const { store, id, sequence, schemaVersion, committedAtMs, ttlMs, remainingMs, stale, payload, origin: adoptedFrom } = session
        const origin = { node: header.node, incarnation: header.incarnation, box, sequence }
        const found: RecoveredSession = { store, id, sequence, schemaVersion, committedAtMs, ttlMs, remainingMs, stale, payload, adoptedFrom, origin }
        const other = newest.get(key)
        // A session that was being handed from the daemon's box to a server's is in both: the later one counts.
        if (other === undefined || other.committedAtMs <= session.committedAtMs) newest.set(key, found)
      }
    }
    const found = [...newest.values()]
    this.#report.inherited.push(...new Set(found.flatMap(({ adoptedFrom }) => adoptedFrom?.node ?? [])))
    return found
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
    const { memory } = this.#options
    for (let waitedMs = 0; waitedMs < othersLimitMs; waitedMs += othersStepMs) {
      if (await hasBeenExtracted(memory, box)) return true
      await this.#pause(othersStepMs)
    }
    return false
  }

  #count(extraction: Extraction): void {
    const { sessions, expired, corrupt, corruptStores, reads, bytes } = extraction
    this.#report.expired += expired
    this.#report.corrupt += corrupt - corruptNotesIn(corruptStores)
    this.#report.stale += sessions.filter(({ stale, store }) => stale && store !== noteStore).length
    this.#report.damagedNotes += damagedNotesIn(extraction)
    this.#report.reads += reads
    this.#report.bytes += bytes
  }
}
