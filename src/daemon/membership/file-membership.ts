/** Membership by a file: a list of peers that is read anew whenever it changes. */
import { dirname } from 'node:path'
import { parseDocument } from 'yaml'
import { asBackdoorsError, BackdoorsError } from '../../errors.js'
import { parsePeers, type DaemonConfig, type PeerConfig } from '../config.js'
import { systemTime, type DaemonTime } from '../daemon-time.js'
import { systemFiles, type MemberFiles } from './member-files.js'
import type { Membership, MembershipEvents } from './membership.js'
import { fromFolder } from './membership-config.js'

/** A file that has changed is read when it has been left alone for so long, in milliseconds: not every editor replaces it at once. */
const settleMs = 100
/** Where no notification comes (network file systems, links that lead elsewhere), the file is looked at so often. In milliseconds. */
const lookEveryMs = 2000

/** Where the file is, and whose timers say when it is looked at; a simulation has its own. */
export interface FileMembershipOptions {
  readonly files?: MemberFiles
  readonly time?: Pick<DaemonTime, 'every' | 'later'>
}

/**
 * One file may serve all nodes: it may list this node itself, and machines that this node lends, and both are passed over.
 *
 * A file that is broken, or gone, leaves the membership as it is. What is not in the file any more has left in order: taking a node
 * out of the file is the operator's word. So a file should be replaced by renaming: a half of it may be a list, too.
 */
export class FileMembership implements Membership {
  readonly source = 'file'
  /** The file was read before this was made. */
  readonly isKnown = true
  readonly #path: string
  readonly #config: DaemonConfig
  readonly #events: MembershipEvents
  readonly #files: MemberFiles
  readonly #time: Pick<DaemonTime, 'every' | 'later'>
  #current: readonly PeerConfig[]
  #trouble: BackdoorsError | undefined
  /** The file as it was read last, or was found not to be readable. */
  #seen: string
  #unwatch: (() => void) | undefined
  #stopLooking: (() => void) | undefined
  #stopSettling: (() => void) | undefined
  #closed = false

  /** @throws BackdoorsError CONFIG_INVALID */
  constructor(path: string, config: DaemonConfig, events: MembershipEvents, { files = systemFiles, time = systemTime }: FileMembershipOptions = {}) {
    this.#path = path
    this.#config = config
    this.#events = events
    this.#files = files
    this.#time = time
    this.#seen = files.stamp(path)
    this.#current = readPeersFile(files, path, config)
  }

  get current(): readonly PeerConfig[] {
    return this.#current
  }

  get trouble(): BackdoorsError | undefined {
    return this.#trouble
  }

  start(): void {
    if (this.#stopLooking !== undefined || this.#closed) return
    this.#watchFolder()
    this.#stopLooking = this.#time.every(lookEveryMs, () => this.#look())
    this.#look()
  }

  close(): Promise<void> {
    this.#closed = true
    this.#unwatch?.()
    this.#stopLooking?.()
    this.#stopSettling?.()
    return Promise.resolve()
  }

  /** The folder, not the file: a file that is replaced by renaming is another one, and the first would never be heard of again. */
  #watchFolder(): void {
    this.#unwatch ??= this.#files.watchFolder(dirname(this.#path), () => this.#look(), () => void (this.#unwatch = undefined))
  }

  /** Waits until the file has settled. */
  #look(): void {
    if (this.#closed) return
    this.#watchFolder()
    const stamp = this.#files.stamp(this.#path)
    if (stamp === this.#seen || this.#stopSettling !== undefined) return
    this.#stopSettling = this.#time.later(settleMs, () => {
      this.#stopSettling = undefined
      if (this.#files.stamp(this.#path) === stamp) this.#read(stamp)
      else this.#look()
    })
  }

  #read(stamp: string): void {
    this.#seen = stamp
    let peers: readonly PeerConfig[]
    try {
      peers = readPeersFile(this.#files, this.#path, this.#config)
    } catch (error) {
      const trouble = asBackdoorsError(error, 'CONFIG_INVALID', `reading the peers in ${this.#path}`, { path: this.#path })
      if (trouble.message === this.#trouble?.message) return
      this.#trouble = trouble
      this.#events.onTrouble(trouble)
      return
    }
    if (this.#trouble !== undefined) this.#events.onWell()
    this.#trouble = undefined
    if (JSON.stringify(peers) === JSON.stringify(this.#current)) return
    this.#current = peers
    this.#events.onChange()
  }
}

/** @throws BackdoorsError CONFIG_INVALID with `path`, and `field` where an entry is at fault */
function readPeersFile(files: MemberFiles, path: string, config: DaemonConfig): readonly PeerConfig[] {
  let listed: unknown
  try {
    const document = parseDocument(files.read(path))
    const fault = document.errors[0]
    if (fault) throw new BackdoorsError('CONFIG_INVALID', `${path}: ${fault.message}`, { path })
    listed = document.toJS()
  } catch (error) {
    throw asBackdoorsError(error, 'CONFIG_INVALID', `Cannot read the peers in ${path}`, { path })
  }
  const { node } = config
  const peers = parsePeers(listed, config, path, ({ name, through }) => name !== node && through !== node)
  return peers.map((peer) => (peer.region === undefined ? peer : { ...peer, region: fromFolder(dirname(path), peer.region) }))
}
