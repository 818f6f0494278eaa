/** What two nodes exchange about memory and queue pairs when they enroll, whatever carries the exchange. */

/** A lent piece of memory. Together the windows of a node are its one offset space. */
export interface MemoryWindow {
  /** Where the window starts in the node's lent memory (for a region: in the region file), in bytes. */
  readonly offset: number
  /** In bytes. */
  readonly length: number
  /** Remote virtual address of its first byte, and the rkey it is registered under. */
  readonly address: bigint
  readonly rkey: number
  /** `atomic` windows take compare-and-swap as well as reads; nothing is lent for plain remote writes. */
  readonly access: 'read' | 'atomic' | 'write'
}

/** One end of an RC queue pair, as the other end needs it. */
export interface QueuePairEndpoint {
  /** Queue pair number, 24 bits. */
  readonly qpn: number
  /** First packet sequence number, 24 bits. */
  readonly psn: number
  /** 16 bytes as 32 hexadecimal digits. */
  readonly gid: string
  /** Local identifier of the port; 0 on RoCE. */
  readonly lid: number
  /** Path MTU that this end can take, in bytes: 256, 512, 1024, 2048 or 4096. */
  readonly mtu: number
  /** How many READs and atomics this end can have outstanding as initiator, and answer as responder. */
  readonly maxRdAtomic: number
  readonly maxDestRdAtomic: number
}

/** A watcher's queue pairs at a peer: one that is sampled, and an idle spare kept for recovery. */
export interface EndpointPair {
  readonly sampling: QueuePairEndpoint
  readonly recovery: QueuePairEndpoint
}
