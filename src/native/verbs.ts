/**
 * The typed statement of the addon's *verbs* target (`addon/verbs/`): one class per verbs object, in the verbs'
 * own words. It exists where libibverbs was found at build time; loading it elsewhere gives VERBS_UNAVAILABLE.
 *
 * Every object holds those it was made from alive, `close()` is idempotent, and the verbs objects beneath are
 * released in the order verbs demands once the last user is gone. Calls on a closed object throw CLOSED; a
 * failed verbs call throws VERBS_CALL_FAILED with `call` and `errno`.
 */
import type { AddonBase } from './addon-base.js'
import type { SamplerCell, SamplerListener, SamplerOptions, SharedMemory } from './memory.js'

export interface GidEntry {
  readonly index: number
  /** 16 bytes as 32 hexadecimal digits. */
  readonly gid: string
  readonly type: 'ib' | 'roce-v1' | 'roce-v2'
  /** The network interface it belongs to, or an empty string. */
  readonly netdev: string
}

export interface PortAttributes {
  /** From 1. */
  readonly number: number
  /** In the verbs' words: `PORT_ACTIVE`, `PORT_DOWN`, … */
  readonly state: string
  readonly linkLayer: 'InfiniBand' | 'Ethernet' | 'unspecified'
  readonly lid: number
  /** In bytes. */
  readonly maxMtu: number
  readonly activeMtu: number
  /** Entries that are in use; `index` is the one to give to a queue pair. */
  readonly gids: readonly GidEntry[]
}

export interface DeviceAttributes {
  readonly name: string
  /** 8 bytes as 16 hexadecimal digits. */
  readonly guid: string
  readonly firmware: string
  readonly vendorId: number
  readonly maxQueuePairs: number
  readonly maxWorkRequests: number
  readonly maxCompletions: number
  /** In bytes. */
  readonly maxRegionLength: bigint
  /** READs and atomics that one queue pair can answer, and have outstanding. */
  readonly maxDestRdAtomic: number
  readonly maxRdAtomic: number
  /** `hca`: atomics are atomic among those that come through this device only. */
  readonly atomics: 'none' | 'hca' | 'global'
  readonly ports: readonly PortAttributes[]
}

/** An asynchronous event of the device, e.g. `DEVICE_FATAL`, `PORT_ERR`, `QP_FATAL`. */
export interface DeviceEvent {
  readonly event: string
  /** Number of the port concerned; only of port events. */
  readonly port?: number
  /** Number of the queue pair concerned; only of queue pair events. */
  readonly queuePair?: number
}

/** An open device. Its asynchronous events arrive on the environment's own event loop and do not keep it alive. */
export interface Context {
  readonly device: string
  /** Asks the device anew. */
  attributes(): DeviceAttributes
  close(): void
}

export interface ProtectionDomain {
  close(): void
}

/** `enum ibv_access_flags`. Peers can read only what is registered with `remoteRead`. */
export const accessFlags = { localWrite: 1, remoteWrite: 2, remoteRead: 4, remoteAtomic: 8 } as const

export interface MemoryRegionOptions {
  /**
   * What is registered; where it is left out, page-aligned memory of the region's own, which reads need as their
   * target. A SharedMemory may be closed while it is registered: its pages stay, and peers go on seeing them.
   *
   * There is no registering of an ArrayBuffer of JavaScript: it can be detached or transferred at any time, and what
   * the device still writes would go to whoever owns that memory then.
   */
  readonly memory?: SharedMemory
  /** First byte within `memory`. Default 0. */
  readonly offset?: number
  /** In bytes. Default: all of `memory` from `offset` on. */
  readonly length?: number
  /** Sum of `accessFlags`. Default `remoteRead`, or `localWrite` for memory of the region's own. */
  readonly access?: number
}

export interface MemoryRegion {
  /** Memory of the region's own; it can be used after the region is closed. Null for a SharedMemory. */
  readonly buffer: ArrayBuffer | null
  /** In bytes. */
  readonly length: number
  /** Virtual address of the first byte, as peers name it in work requests. */
  readonly address: bigint
  readonly lkey: number
  readonly rkey: number
  /** Deregisters as soon as no batch uses it. */
  close(): void
}

/** With a completion channel of its own, of which the environment's event loop hears. */
export interface CompletionQueue {
  readonly depth: number
  close(): void
}

/** Attributes of an RC queue pair that do not depend on the peer; the verbs' encodings where not said otherwise. */
export interface QueuePairOptions {
  /** Name of the node at the other end, for errors. */
  readonly peer: string
  /** Work requests that can be outstanding (`max_send_wr`). */
  readonly depth: number
  readonly port: number
  readonly gidIndex: number
  readonly pkeyIndex: number
  /** Sum of `accessFlags` the peer may use through this queue pair. */
  readonly access: number
  /** First packet sequence number of this end, 24 bits. */
  readonly psn: number
  /** Answer time-out: 4.096 µs × 2^timeout, 0 (never) to 31. */
  readonly timeout: number
  /** 0 to 7. */
  readonly retryCount: number
  /** 0 to 7; 7 is without end. */
  readonly rnrRetry: number
  /** 0 to 31 (`min_rnr_timer`). */
  readonly minRnrTimer: number
  readonly trafficClass: number
  readonly hopLimit: number
  readonly serviceLevel: number
}

/** What the two ends have agreed on: the lesser of what each offers. */
export interface QueuePairConnection {
  readonly qpn: number
  readonly psn: number
  /** 16 bytes as 32 hexadecimal digits. */
  readonly gid: string
  readonly lid: number
  /** In bytes: 256, 512, 1024, 2048 or 4096. */
  readonly mtu: number
  /** READs and atomics this end may have outstanding, and has to answer. */
  readonly maxRdAtomic: number
  readonly maxDestRdAtomic: number
}

/** Memory of the peer that requests may name: an offset in its lent memory, and the device's names for it. */
export interface PeerWindow {
  readonly offset: number
  /** In bytes. */
  readonly length: number
  readonly address: bigint
  readonly rkey: number
  /** `atomic` takes atomics as well as reads, `write` all three. */
  readonly access: 'read' | 'atomic' | 'write'
}

/** An RC queue pair. It is in INIT when made. */
export interface QueuePair {
  /** Queue pair number, 24 bits. */
  readonly qpn: number
  /** In the verbs' words: `INIT`, `RTS`, `ERR`, … */
  readonly state: string
  /**
   * INIT → RTR → RTS.
   * @throws QP_TRANSITION, which says which attribute is missing or out of its bounds, or what the device said.
   */
  connect(remote: QueuePairConnection): void
  /** The peer's memory that batches may name by their index in `windows`. Bounds are checked against them. */
  setWindows(windows: readonly PeerWindow[]): void
  /** Destroys the queue pair. Runs under way fail with CLOSED, and their buffers are free again. */
  close(): void
}

/** Numbers a `WorkBatch` is prepared with (`enum ibv_wr_opcode`). */
export const workOpcodes = { write: 0, read: 4, compareAndSwap: 5, fetchAndAdd: 6 } as const
/** Fields of one row of `WorkBatch.prepare`: [window, offset in the window, offset in the region, length]. */
export const workRowFields = 4

/**
 * Work requests that are built once and run many times. A run posts them under one doorbell where the queue's
 * depth allows, and is complete when the last of them is: only that one is signaled.
 *
 * Any failure ends the queue pair. The error is the first one of the queue pair that was not a flush; runs
 * after it throw the same.
 */
export interface WorkBatch {
  readonly capacity: number
  /** True from the start of a run until the device is done with the buffers: longer than the run if that timed out. */
  readonly busy: boolean
  /**
   * Replaces the work requests by `count` READs or WRITEs. Nothing is allocated.
   * @throws OUT_OF_RANGE, READ_ONLY, INVALID_ARGUMENT (length 0, or too many), QUEUE_FULL while busy
   */
  prepare(opcode: number, rows: Float64Array, count: number): void
  /**
   * Replaces the work requests by one atomic; `localOffset` is where in the region the old value is put.
   * @throws UNALIGNED, OUT_OF_RANGE, READ_ONLY, QUEUE_FULL while busy
   */
  prepareAtomic(opcode: number, window: number, offset: number, localOffset: number, compareOrAdd: bigint, swap: bigint): void
  /**
   * Runs by the completion queue's event channel, on the environment's event loop.
   * @returns undefined where the run was over before this returned: some devices are that quick, and then neither a
   * promise nor a turn of the event loop is needed.
   * @throws CLOSED; the promise rejects with TIMEOUT (the buffers stay the device's until `busy` is false), WC_…,
   * CLOSED, or QUEUE_FULL while busy
   */
  run(): Promise<void> | undefined
  /** Runs by busy polling: this thread does nothing else meanwhile. Throws what `run` rejects with. */
  runSync(): void
  /**
   * The native poll loop: runs `iterations` times, one run outstanding.
   * @returns for each, nanoseconds from its post to the next one's, as perftest's `ib_read_lat -U` measures.
   */
  latencyLoop(iterations: number): Float64Array
  /** Waits for nobody: a run under way goes on, and its buffers stay held until it is over. */
  close(): void
}

/** As the memory target's sampler, over batches; each batch needs to be given to one sampler only. */
export interface VerbsSampler {
  /** Cells' positions are offsets into the batch's region. The batch must be prepared, and is run by the sampler alone. */
  add(batch: WorkBatch, cells: readonly SamplerCell[], intervalUs: number, unreachableAfterUs: number): number
  update(target: number, batch: WorkBatch, cells: readonly SamplerCell[], intervalUs: number, unreachableAfterUs: number): void
  remove(target: number): void
  /** Packed as in the memory target's `Sampler.state`. */
  state(target: number): Float64Array
  /** As the memory target's. */
  histograms(target: number): Float64Array
  readonly warnings: readonly string[]
  close(): void
}

export interface VerbsAddon extends AddonBase {
  /** Devices present on this machine; empty where there are none. @throws VERBS_CALL_FAILED */
  devices(): DeviceAttributes[]
  /** @throws DEVICE_NOT_FOUND */
  readonly Context: new (device: string, listener?: (event: DeviceEvent) => void) => Context
  readonly ProtectionDomain: new (context: Context) => ProtectionDomain
  /** @throws MEMLOCK_LIMIT when the pages cannot be locked, OUT_OF_RANGE */
  readonly MemoryRegion: new (domain: ProtectionDomain, options: MemoryRegionOptions) => MemoryRegion
  /** `depth` completions at least. @throws MEMLOCK_LIMIT */
  readonly CompletionQueue: new (context: Context, depth: number) => CompletionQueue
  /** Both its send and its receive queue complete to `queue`. @throws QP_TRANSITION, MEMLOCK_LIMIT */
  readonly QueuePair: new (domain: ProtectionDomain, queue: CompletionQueue, options: QueuePairOptions) => QueuePair
  /** `region` is where reads go to, writes come from, and atomics leave the old value; each run has `timeoutUs`. */
  readonly WorkBatch: new (queuePair: QueuePair, region: MemoryRegion, capacity: number, timeoutUs: number) => WorkBatch
  readonly Sampler: new (listener: SamplerListener, options?: SamplerOptions) => VerbsSampler
}
