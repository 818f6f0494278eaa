/** How a daemon reaches the memory of its peers, whatever the fabric. */
import { isBackdoorsError } from '../../errors.js'
import type { RemoteMemory } from '../../fabric/remote-memory.js'
import type { KernelImage } from '../../kernel/kernel-image.js'
import type { ControlConnection } from '../../monitor/verdict.js'
import type { SecondOpinion } from '../../monitor/second-opinion.js'
import type { RegionHeader } from '../../region/header.js'
import type { PeerConfig } from '../config.js'

/** A peer's lent region, connected while the peer was healthy. */
export interface PeerLink {
  readonly header: RegionHeader
  /** For the sampler. */
  readonly sampling: RemoteMemory
  /** The idle spare, kept for recovery. */
  readonly recovery: RemoteMemory
  /** @param knownForUs how long ago this link's reads were found to fail; undefined where they succeed */
  control(knownForUs: number | undefined): ControlConnection
  /** The recovery memory as a recovery is to use it: of a host, its pages are looked up anew. @throws what reading throws */
  forRecovery(): Promise<RemoteMemory>
  /** Of a host whose whole memory is lent: its kernel, read by the recovery memory. */
  readonly kernel?: (() => KernelImage) | undefined
  /** Makes this link anew, where the daemon at the other end answers but its memory does not. */
  renew(): void
  close(): Promise<void>
}

/** A machine whose whole memory is lent, whether or not it has a region. */
export interface MachineLink {
  readonly image: KernelImage
  /** By physical offsets, for the sampler. */
  readonly memory: RemoteMemory
  /** Is a link to its region about to follow? */
  readonly hasRegion: boolean
  /** Of the machine that lends it; as `PeerLink.control`. */
  control(knownForUs: number | undefined): ControlConnection
}

export interface PeerHandlers {
  /** Its whole memory can be read. Before `onLink`, where it has a region as well. */
  readonly onMachine?: (machine: MachineLink) => void
  /** The peer is connected, for the first time or anew (restarted, or with another incarnation). */
  readonly onLink: (link: PeerLink) => void
  /** Not (or no longer) connected; it is tried again. What was read by the last link may still be readable. */
  readonly onTrouble: (error: unknown) => void
}

export interface PeerFabric {
  /** Other nodes, as far as this fabric has connections by which they can be asked what they see. */
  readonly observers?: SecondOpinion
  /** Who may enroll here from now on; whoever may not any more is cut off. */
  setMembers(members: readonly PeerConfig[]): void
  /** Keeps a link to the peer until closed; a peer can be kept again then. */
  keep(peer: PeerConfig, handlers: PeerHandlers): { close(): Promise<void> }
  /**
   * Takes up keys and revocation list anew, where the fabric has any.
   * @throws BackdoorsError KEYS_MISSING, CERTIFICATE_INVALID; the old ones then stay in use
   */
  reloadKeys(): Promise<void>
  close(): Promise<void>
}

/** Trouble that only means that the peer has not started yet. */
export const isNotThereYet = (error: unknown): boolean => isBackdoorsError(error, 'REGION_NOT_FOUND', 'PEER_UNREACHABLE')
