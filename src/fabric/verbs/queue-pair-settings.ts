/** What a queue pair can be configured by. */

/** All optional; every attribute is passed to verbs as it is, and refused there (QP_TRANSITION) if it is not allowed. */
export interface QueuePairSettings {
  /** Work requests that can be outstanding. Default 256. */
  readonly depth?: number
  /** Answer time-out of the NIC: 4.096 µs × 2^timeout. Default 14: 67 ms. NICs have floors of their own. */
  readonly timeout?: number
  /**
   * How often the NIC asks again, 0 to 7. Failure is seen after about time-out × (retryCount + 1). Default 6: with 7 a
   * dead peer never failed at soft-RoCE.
   */
  readonly retryCount?: number
  /** Default 7: without end. */
  readonly rnrRetry?: number
  /** Default 12: 0.64 ms. */
  readonly minRnrTimer?: number
  /** Path MTU in bytes. Default: what the port has now. The lesser of both ends is taken. */
  readonly mtu?: number
  /** READs and atomics outstanding at once, each way. Default 16, or what the device can do if that is less. */
  readonly maxRdAtomic?: number
  /** Default 0. */
  readonly trafficClass?: number
  /** Default 0. */
  readonly serviceLevel?: number
  /** Default 64. */
  readonly hopLimit?: number
  /** Default 0. */
  readonly pkeyIndex?: number
}

export const defaultQueuePairSettings: Required<Omit<QueuePairSettings, 'mtu'>> = {
  depth: 256,
  timeout: 14,
  retryCount: 6,
  rnrRetry: 7,
  minRnrTimer: 12,
  maxRdAtomic: 16,
  trafficClass: 0,
  serviceLevel: 0,
  hopLimit: 64,
  pkeyIndex: 0,
}
