/**
 * Who the other nodes of the cluster are, as this node knows it at any time: from the configuration, once and for all; from a
 * file that is read anew when it changes; or from etcd.
 *
 * Membership says whom to watch and who may enroll, never who somebody is: that is proven by certificates. And it is advice
 * that may be late: a source that cannot be read, or has gone mad, leaves the last membership in force. A monitor that needed
 * its membership service to be up would fail with it.
 *
 * A node ends to be a member in order only: by leaving (its daemon is told to end), or by an operator's word (its removal from the file,
 * a marker in etcd). That it is silent is no such word: a node that has died must be watched on, as it is to be recovered.
 */
import type { BackdoorsError } from '../../errors.js'
import type { DaemonConfig, PeerConfig } from '../config.js'
import { EtcdMembership } from './etcd-membership.js'
import { FileMembership } from './file-membership.js'

export interface Membership {
  readonly source: 'static' | 'file' | 'etcd'
  /** The members that are in force, this node not among them; checked, and replaced as a whole. */
  readonly current: readonly PeerConfig[]
  /**
   * Are those in force all that there are, as far as the source has ever said? Not before it has answered once: until then this node knows
   * its configuration alone, and must not act as if there were nobody else.
   */
  readonly isKnown: boolean
  /** Why the source is not followed at the moment; what is in force may be out of date. */
  readonly trouble: BackdoorsError | undefined
  /** Begins to follow the source and, where it is one that nodes register with, registers this node. Idempotent. */
  start(): void
  /** Leaves in order, where the source knows of leaving, and follows no more. Takes a few seconds at the most. Idempotent; never rejects. */
  close(): Promise<void>
}

export interface MembershipEvents {
  /** `current` has changed. */
  readonly onChange: () => void
  /** Told once until it is over: the source cannot be followed, or an entry of it cannot be used. */
  readonly onTrouble: (error: BackdoorsError) => void
  /** The source is followed again. */
  readonly onWell: () => void
  /** Worth a line in the log. */
  readonly onNote: (message: string, about: object) => void
}

/** @throws BackdoorsError CONFIG_INVALID for a file that cannot be used: at the start there is no earlier membership to keep */
export function openMembership(config: DaemonConfig, events: MembershipEvents): Membership {
  const { file, etcd } = config.membership ?? {}
  if (file !== undefined) return new FileMembership(file, config, events)
  if (etcd !== undefined) return new EtcdMembership(etcd, config, events)
  return { source: 'static', current: config.peers, isKnown: true, trouble: undefined, start: () => undefined, close: () => Promise.resolve() }
}
