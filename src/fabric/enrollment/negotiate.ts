import type { QueuePairEndpoint } from '../lending.js'

/** Attributes of a queue pair that follow from what its two ends offer. */
export interface NegotiatedAttributes {
  /** `path_mtu`, in bytes: the smaller of the two. */
  readonly mtu: number
  /** `max_rd_atomic`: what this end may have outstanding and the other can answer. */
  readonly maxRdAtomic: number
  /** `max_dest_rd_atomic`: what this end can answer and the other may have outstanding. */
  readonly maxDestRdAtomic: number
}

/** Both ends compute this alone and arrive at matching values: one's `maxRdAtomic` is the other's `maxDestRdAtomic`. */
export function negotiate(local: QueuePairEndpoint, remote: QueuePairEndpoint): NegotiatedAttributes {
  return {
    mtu: Math.min(local.mtu, remote.mtu),
    maxRdAtomic: Math.min(local.maxRdAtomic, remote.maxDestRdAtomic),
    maxDestRdAtomic: Math.min(local.maxDestRdAtomic, remote.maxRdAtomic),
  }
}
