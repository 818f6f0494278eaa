/** The memory that this node lends: its region, the daemon's own box in it, and the OS sensor's beat. */
import { existsSync, renameSync, unlinkSync } from 'node:fs'
import type { Logger } from 'pino'
import { BackdoorsError, isBackdoorsError } from '../errors.js'
import { memoryAddon } from '../native/load.js'
import { AdoptionNotes } from '../recovery/adoption-notes.js'
import { nothingWritten, Witnesses, writtenIn, type Written } from '../recovery/witness.js'
import type { BeatThread } from '../native/memory.js'
import { abandonedBoxes, BoxOwner, isBeingRecovered, markExited } from '../region/box-owner.js'
import { decodeClaim, nodeGeneration } from '../region/control.js'
import { control, controlPairOffset, directoryEntryOffset, sensorCell } from '../region/layout.js'
import { ControlWords, createRegion, lockForDaemon, openRegion, type Region } from '../region/region.js'
import { safeguardsWithout } from '../safeguards.js'
import type { DaemonConfig } from './config.js'
import { systemTime, type DaemonTime } from './daemon-time.js'

/** Name of the daemon's own box, and of its sensor for the machine's operating system. */
export const daemonBoxName = 'daemon'
export const osSensorName = 'os'

/** A fenced region is kept for its recoverer for so long, in milliseconds, then put aside. */
const keepFencedMs = 30_000
/** Where an orderly end takes the memory away, a recovery from it is waited for so long, in milliseconds. */
const leavingWaitsMs = 5000
const beatsPerDeadline = 20

export class OwnRegion {
  readonly region: Region
  readonly box: BoxOwner
  /** What is written down there of the recoveries that it adopts from. */
  readonly notes: AdoptionNotes
  /** And what is written down of those of others. */
  readonly witnesses: Witnesses
  /** Was it made by this daemon, and not taken up? */
  readonly isNew: boolean
  readonly #control: ControlWords
  readonly #beat: BeatThread

  /**
   * Takes up the region of this node's last daemon, with its incarnation and all that servers have committed; or
   * makes a new one where there is none, where it was laid out otherwise, or where the node has been fenced.
   * @throws BackdoorsError BOX_IN_USE: another daemon lends it
   */
  constructor(config: DaemonConfig, log: Logger) {
    if (config.canary) log.error({ canary: config.canary }, 'a safeguard is switched off by the configuration: sessions may be lost, invented or served twice')
    const { region: earlier, written } = takeUp(config, log)
    this.isNew = earlier === undefined
    this.region = earlier ?? createRegion(config.region.path, config.node, config.cluster, geometryOf(config))
    this.#control = new ControlWords(this.region)
    try {
      lockForDaemon(this.region)
      const trouble = this.region.memory.pin()
      if (trouble) log.warn({ trouble }, 'the region could not be locked in memory')
      const movable = this.region.memory.pinFrames()
      if (movable) log.info({ trouble: movable }, 'the kernel may move pages of the region: who reads this machine\'s whole memory has to look them up again')
      this.box = BoxOwner.take(this.region, { name: daemonBoxName, daemon: true, safeguards: safeguardsWithout(config.canary) })
      this.notes = new AdoptionNotes(this.box)
      this.notes.inherit(written.notes)
      this.witnesses = new Witnesses(this.box)
      this.witnesses.tellOn(written.witnessed)
      this.#beat = this.#beatOsSensor(config, log)
    } catch (error) {
      this.region.memory.close()
      throw error
    }
  }

  /** Has a peer fenced this whole node? */
  get fenced(): boolean {
    return this.box.fenced
  }

  get beats(): number {
    return this.#beat.beats
  }

  /** Has the recovery of this fenced node run to its end, so that its memory is needed no more? */
  get recovered(): boolean {
    return isRecovered(this.#control)
  }

  /** Marks the boxes of servers whose process is gone. @returns their names */
  markAbandoned(): string[] {
    return abandonedBoxes(this.region).map(({ box, entry }) => {
      markExited(this.region, box, entry.generation)
      return entry.name
    })
  }

  /** The end of a daemon that did not come to be: what it made is gone, lest it keep the memory. */
  discard(): void {
    // Notes of an earlier region stand here and nowhere else.
    const isEmpty = this.notes.size === 0
    this.close()
    if (this.isNew && isEmpty) unlinkSync(this.region.memory.path)
  }

  /** An orderly end: watchers see the daemon's box closed. The file stays, with what servers committed. */
  close(): void {
    this.#beat.close()
    this.box.close()
    this.region.memory.close()
  }

  #beatOsSensor(config: DaemonConfig, log: Logger): BeatThread {
    const deadlineUs = config.watch.osDeadlineMs * 1000
    const sensor = this.box.sensor({ name: osSensorName, kind: 'progress', deadlineUs })
    const { BeatThread } = memoryAddon()
    const beat = new BeatThread({
      memory: this.region.memory,
      counterOffset: sensor.offset + sensorCell.counter,
      fenceOffset: controlPairOffset('node') + control.fence,
      fenceLimit: config.canary === 'fence' ? 0 : nodeGeneration,
      intervalUs: Math.max(50, deadlineUs / beatsPerDeadline),
    })
    for (const warning of beat.warnings) log.warn({ warning }, 'the OS sensor beats without real-time guarantees')
    return beat
  }
}

const geometryOf = ({ region }: DaemonConfig): { boxCount: number; sensorsPerBox: number; sessionsPerBox: number; heapBytes: number } => ({
  boxCount: region.boxes, sensorsPerBox: region.sensorsPerBox, sessionsPerBox: region.sessionsPerBox, heapBytes: region.heapBytes,
})

function isRecovered(words: ControlWords): boolean {
  return words.fence('node') !== 0 && decodeClaim(words.claim('node'))?.step === 'announced'
}

interface Earlier {
  readonly region: Region | undefined
  /** Of recoveries that the earlier daemon had under way when its node was fenced, and of those of others. */
  readonly written: Written
}

/** @returns the region of an earlier daemon, or none where a new one is due */
function takeUp(config: DaemonConfig, log: Logger): Earlier {
  const { path } = config.region
  const nothing: Earlier = { region: undefined, written: nothingWritten }
  if (!existsSync(path)) return nothing
  let region: Region
  try {
    region = openRegion(path)
  } catch (error) {
    if (!isBackdoorsError(error, 'REGION_CORRUPT', 'REGION_TRUNCATED', 'LAYOUT_UNSUPPORTED')) throw error
    putAside(path, `unreadable-${Date.now()}`, log, error.message)
    return nothing
  }
  const { plan, node, cluster, incarnation } = region.header
  const wanted = geometryOf(config)
  const same = node === config.node && cluster === config.cluster && plan.boxCount === wanted.boxCount && plan.sensorsPerBox === wanted.sensorsPerBox && plan.sessionsPerBox === wanted.sessionsPerBox && plan.heapBytes === wanted.heapBytes
  const words = new ControlWords(region)
  if (same && words.fence('node') === 0) return { region, written: nothingWritten }
  lockForDaemon(region)
  if (!same) checkNobodyIsAttached(region)
  if (isRecovered(words)) unlinkSync(path)
  else putAside(path, incarnation.toString(16), log, same ? 'the node was fenced, and its recovery did not end' : 'it was made for another configuration')
  const written = writtenIn(region)
  region.memory.close()
  return { region: undefined, written }
}

/** Servers go on committing into the memory they have mapped, and nobody would lend it any more. */
function checkNobodyIsAttached(region: Region): void {
  const { memory, header: { plan, node } } = region
  const box = Array.from({ length: plan.boxCount - 1 }, (_, i) => i + 1).find((each) => memory.isLocked(directoryEntryOffset(plan, each), 1))
  if (box === undefined) return
  const { path } = memory
  memory.close()
  throw new BackdoorsError('BOX_IN_USE', `The region ${path} was made for another configuration (node ${node}), and a server is attached to it: stop the servers, or take the configuration back.`, { path, box })
}

function putAside(path: string, suffix: string, log: Logger, why: string): void {
  const aside = `${path}.${suffix}`
  renameSync(path, aside)
  log.warn({ path, aside, why }, 'put an earlier region aside and made a new one')
}

/** Resolves when the recovery of a fenced node has ended, or has had its time: its memory is lent until then. */
export async function lendUntilRecovered(own: OwnRegion, isClosing: () => boolean): Promise<void> {
  const stepMs = 20
  for (let waitedMs = 0; waitedMs < keepFencedMs && !isClosing() && !own.recovered; waitedMs += stepMs) {
    await new Promise((resolve) => setTimeout(resolve, stepMs))
  }
}

/**
 * Resolves when nobody recovers anything from this region any more, or has had the time for it: what is fenced is served by nobody here, and once
 * its memory is lent no more, by nobody else either.
 */
export async function lendWhileRecovered(region: Region, time: Pick<DaemonTime, 'pause'> = systemTime): Promise<void> {
  const stepMs = 20
  for (let waitedMs = 0; waitedMs < leavingWaitsMs && isBeingRecovered(region); waitedMs += stepMs) await time.pause(stepMs)
}
