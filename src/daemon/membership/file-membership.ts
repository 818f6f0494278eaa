/** Membership by a file: a list of peers that is read anew whenever it changes. */
import { readFileSync, statSync, watch, type FSWatcher } from 'node:fs'
import { dirname } from 'node:path'
import { parseDocument } from 'yaml'
import { asBackdoorsError, BackdoorsError } from '../../errors.js'
import { parsePeers, type DaemonConfig, type PeerConfig } from '../config.js'
import type { Membership, MembershipEvents } from './membership.js'
import { fromFolder } from './membership-config.js'

/** A file that has changed is read when it has been left alone for so long, in milliseconds: not every editor replaces it at once. */
const settleMs = 100
/** Where no notification comes (network file systems, links that lead elsewhere), the file is looked at so often. In milliseconds. */
const lookEveryMs = 2000
/** No list of 1024 peers is longer, in bytes. */
const maxFileBytes = 1 << 20

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
  #current: readonly PeerConfig[]
  #trouble: BackdoorsError | undefined
  /** The file as it was read last, or was found not to be readable. */
  #seen: string
  #watcher: FSWatcher | undefined
  #looking: NodeJS.Timeout | undefined
  #settling: NodeJS.Timeout | undefined
  #closed = false

  /** @throws BackdoorsError CONFIG_INVALID */
  constructor(path: string, config: DaemonConfig, events: MembershipEvents) {
    this.#path = path
    this.#config = config
    this.#events = events
    this.#seen = stampOf(path)
    this.#current = readPeersFile(path, config)
  }

  get current(): readonly PeerConfig[] {
    return this.#current
  }

  get trouble(): BackdoorsError | undefined {
    return this.#trouble
  }

  start(): void {
    if (this.#looking !== undefined || this.#closed) return
    this.#watchFolder()
    this.#looking = setInterval(() => this.#look(), lookEveryMs).unref()
    this.#look()
  }

  close(): Promise<void> {
    this.#closed = true
    this.#watcher?.close()
    clearInterval(this.#looking)
    clearTimeout(this.#settling)
    return Promise.resolve()
  }

  /** The folder, not the file: a file that is replaced by renaming is another one, and the first would never be heard of again. */
  #watchFolder(): void {
    if (this.#watcher !== undefined) return
    try {
      const watcher = watch(dirname(this.#path), { persistent: false }, () => this.#look())
      watcher.on('error', () => {
        watcher.close()
        this.#watcher = undefined
      })
      this.#watcher = watcher
    } catch {
      // No folder, or no more watches to be had: it is looked at now and then all the same.
    }
  }

  /** Waits until the file has settled. */
  #look(): void {
    if (this.#closed) return
    this.#watchFolder()
    const stamp = stampOf(this.#path)
    if (stamp === this.#seen || this.#settling !== undefined) return
    this.#settling = setTimeout(() => {
      this.#settling = undefined
      if (stampOf(this.#path) === stamp) this.#read(stamp)
      else this.#look()
    }, settleMs).unref()
  }

  #read(stamp: string): void {
    this.#seen = stamp
    let peers: readonly PeerConfig[]
    try {
      peers = readPeersFile(this.#path, this.#config)
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

/** Which file it is, and of when; it is another after every change, by whatever means. Of a file that cannot be looked at, why. */
function stampOf(path: string): string {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true })
    return [dev, ino, size, mtimeNs, ctimeNs].join()
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code)
  }
}

/** @throws BackdoorsError CONFIG_INVALID with `path`, and `field` where an entry is at fault */
function readPeersFile(path: string, config: DaemonConfig): readonly PeerConfig[] {
  let listed: unknown
  try {
    const { size } = statSync(path)
    if (size > maxFileBytes) throw new BackdoorsError('CONFIG_INVALID', `${path}: no list of peers has ${size} bytes`, { path, length: size })
    const document = parseDocument(readFileSync(path, 'utf8'))
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
