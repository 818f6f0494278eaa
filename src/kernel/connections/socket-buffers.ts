/**
 * The socket buffers of many connections at once: lists and trees are followed breadth-first, so that a thousand queues take as
 * many batches as the longest of them. Where their bytes are is found out here; nothing is read of them.
 *
 * Sources: include/linux/skbuff.h and include/net/tcp.h (tcp_skb_cb) of the Linux kernel.
 */
import { BackdoorsError } from '../../errors.js'
import type { KernelImage } from '../kernel-image.js'
import type { KernelObject } from '../kernel-object.js'
import type { PageFrames } from '../page-frames.js'
import type { ConnectionLayout } from './layout.js'

/** Some bytes in one piece: by their address in the kernel, or in physical memory. */
export type Extent =
  | { readonly address: bigint; readonly length: number }
  | { readonly physical: number; readonly length: number }

export interface SocketBuffer {
  readonly seq: number
  readonly endSeq: number
  /** Of the TCP header: FIN is 1, SYN is 2. */
  readonly flags: number
  /** Of all its bytes. */
  readonly length: number
  /** Of those that are in pages, or in buffers that hang on it. */
  readonly outside: number
  /** Its own bytes, in order. */
  readonly extents: Extent[]
  /** Buffers that hang on it (`frag_list`): their bytes follow its own. */
  readonly list: SocketBuffer[]
}

/** A list is followed from both ends at once until they meet: it takes half as long. */
type Way = 'next' | 'prev'

export interface Trouble {
  readonly reason: 'garbage' | 'unreadable' | 'too-large'
  readonly why: string
}

/** Where a queue stands. A list comes back to its head, which is no buffer. */
export type QueuePlace =
  | { readonly kind: 'list'; readonly head: bigint; readonly first: bigint; readonly last: bigint }
  | { readonly kind: 'tree'; readonly root: bigint }

/** Buffers on their way into memory, of one socket. */
export class BufferQueue {
  readonly place: QueuePlace
  /** In the order in which they were found: of a list, from its first on, and from its last on. */
  readonly forward: SocketBuffer[] = []
  readonly backward: SocketBuffer[] = []
  /** Buffers that were found, by the way to them; most queues are empty, and need none. */
  seen: Record<Way, Set<bigint>> | undefined
  /** Of all its buffers so far. */
  bytes = 0
  /** Why it cannot be taken. */
  trouble: Trouble | undefined

  constructor(place: QueuePlace) {
    this.place = place
  }

  /** In the order of a list; of a tree, in none. */
  get buffers(): SocketBuffer[] {
    return this.backward.length === 0 ? this.forward : [...this.forward, ...this.backward.toReversed()]
  }

  fail(reason: Trouble['reason'], why: string): void {
    this.trouble ??= { reason, why }
  }
}

/** Bytes of one queue at most; a kernel as it is shipped lets 4 MiB be sent and 6 MiB be received, with all that belongs to them. */
export const mostQueueBytes = 8 << 20
/** Buffers of one queue at most, and of all: a memory that lies may have the same ones in all queues. Those that are short are done by then. */
const mostBuffers = 1 << 14
const mostInAll = 1 << 18

/** A buffer that is to be read next. */
interface Visit {
  readonly queue: BufferQueue
  readonly address: bigint
  readonly way: Way
  /** Whose list it hangs on. */
  readonly parent: SocketBuffer | undefined
}

/** The part of a buffer that says which pages are its own (`skb_shared_info`). */
interface SharedVisit {
  readonly queue: BufferQueue
  readonly address: bigint
  readonly buffer: SocketBuffer
  readonly isNested: boolean
}

/** Fills the queues. What is wrong with one is said in its `trouble`. @throws what reading throws */
export async function readQueues(image: KernelImage, layout: ConnectionLayout, frames: PageFrames | undefined, queues: readonly BufferQueue[]): Promise<void> {
  const walk = new QueueWalk(layout, frames)
  for (const queue of queues) walk.begin(queue)
  while (walk.buffers.length > 0 || walk.shared.length > 0) {
    const { buffers, shared } = walk.take()
    const [read, readShared] = await image.readGroups([
      { selection: layout.buffer, addresses: buffers.map(({ address }) => address) },
      { selection: layout.shared, addresses: shared.map(({ address }) => address) },
    ]) as [(KernelObject | BackdoorsError)[], (KernelObject | BackdoorsError)[]]
    for (const [i, visit] of buffers.entries()) walk.meet(visit, read[i] as KernelObject | BackdoorsError)
    for (const [i, visit] of shared.entries()) walk.meetShared(visit, readShared[i] as KernelObject | BackdoorsError)
  }
  for (const queue of queues) for (const buffer of queue.buffers) checkLengths(queue, buffer)
}

class QueueWalk {
  readonly #layout: ConnectionLayout
  readonly #frames: PageFrames | undefined
  buffers: Visit[] = []
  shared: SharedVisit[] = []
  #count = 0

  constructor(layout: ConnectionLayout, frames: PageFrames | undefined) {
    this.#layout = layout
    this.#frames = frames
  }

  begin(queue: BufferQueue): void {
    const { place } = queue
    if (place.kind === 'tree') return this.#visitNode(queue, place.root)
    this.#visit({ queue, address: place.first, way: 'next', parent: undefined })
    this.#visit({ queue, address: place.last, way: 'prev', parent: undefined })
  }

  /** All that is to be read now. */
  take(): { buffers: Visit[]; shared: SharedVisit[] } {
    const sound = <T extends { readonly queue: BufferQueue }>(visits: readonly T[]): T[] => visits.filter(({ queue }) => queue.trouble === undefined)
    const taken = { buffers: sound(this.buffers), shared: sound(this.shared) }
    ;[this.buffers, this.shared] = [[], []]
    return taken
  }

  meet({ queue, way, parent }: Visit, read: KernelObject | BackdoorsError): void {
    if (read instanceof BackdoorsError) return queue.fail('unreadable', read.message)
    const buffer = this.#bufferOf(queue, read)
    if (buffer === undefined) return
    if (buffer.outside > 0) this.shared.push({ queue, address: BigInt.asUintN(64, read.pointer('head') + BigInt(read.number('end'))), buffer, isNested: parent !== undefined })
    if (parent !== undefined) {
      parent.list.push(buffer)
      this.#visitListed(queue, read.pointer('next'), parent)
    } else {
      ;(way === 'next' ? queue.forward : queue.backward).push(buffer)
      if (queue.place.kind === 'list') this.#visit({ queue, address: read.pointer(way), way, parent })
      else for (const side of ['rbnode.rb_left', 'rbnode.rb_right']) this.#visitNode(queue, read.pointer(side))
    }
  }

  meetShared({ queue, buffer, isNested }: SharedVisit, read: KernelObject | BackdoorsError): void {
    if (read instanceof BackdoorsError) return queue.fail('unreadable', read.message)
    this.#addFragments(queue, buffer, read)
    const listed = read.pointer('frag_list')
    if (listed === 0n) return
    if (isNested) return queue.fail('garbage', 'a buffer that hangs on another has buffers of its own')
    this.#visitListed(queue, listed, buffer)
  }

  #visitNode(queue: BufferQueue, node: bigint): void {
    if (node !== 0n) this.#visit({ queue, address: BigInt.asUintN(64, node - this.#layout.bufferNode), way: 'next', parent: undefined })
  }

  #visitListed(queue: BufferQueue, address: bigint, parent: SocketBuffer): void {
    if (address !== 0n) this.#visit({ queue, address, way: 'next', parent })
  }

  #visit(visit: Visit): void {
    const { queue, address, way, parent } = visit
    const list = parent === undefined && queue.place.kind === 'list' ? queue.place : undefined
    if (address === list?.head) return
    const seen = (queue.seen ??= { next: new Set(), prev: new Set() })
    const { next, prev } = seen
    // They have met.
    if (list && (way === 'next' ? prev : next).has(address)) return
    if (next.has(address) || prev.has(address)) return queue.fail('garbage', 'a queue comes back to a buffer before')
    if (next.size + prev.size >= mostBuffers) return queue.fail('garbage', `a queue has more than ${mostBuffers} buffers`)
    if (++this.#count > mostInAll) return queue.fail('too-large', `all queues together have more than ${mostInAll} buffers`)
    seen[way].add(address)
    this.buffers.push(visit)
  }

  #bufferOf(queue: BufferQueue, read: KernelObject): SocketBuffer | undefined {
    const { seq, endSeq, flags } = this.#layout.control
    const bytes = read.bytes('cb')
    const control = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const [length, outside] = [read.number('len'), read.number('data_len')]
    queue.bytes += length
    // What was read or acknowledged a moment ago may still be there.
    if (outside > length || queue.bytes > 2 * mostQueueBytes) {
      queue.fail('garbage', outside > length ? `a buffer of ${length} bytes has ${outside} of them elsewhere` : `buffers of ${queue.bytes} bytes`)
      return undefined
    }
    const extents: Extent[] = length > outside ? [{ address: read.pointer('data'), length: length - outside }] : []
    return { seq: control.getUint32(seq, true), endSeq: control.getUint32(endSeq, true), flags: control.getUint8(flags), length, outside, extents, list: [] }
  }

  #addFragments(queue: BufferQueue, { extents }: SocketBuffer, read: KernelObject): void {
    const { bytes: stride, page, offset, length } = this.#layout.fragment
    const bytes = read.bytes('frags')
    const count = read.number('nr_frags')
    if (count * stride > bytes.length) return queue.fail('garbage', `a buffer claims ${count} pieces of pages`)
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    for (let at = 0; at < count * stride; at += stride) {
      const place = this.#frames?.placeOf(view.getBigUint64(at + page, true))
      // That of a network card's own memory is odd (netmem_ref), and lies nowhere.
      if (place === undefined) return queue.fail('unreadable', this.#frames === undefined ? 'this kernel does not say where its pages are' : 'a piece of a buffer is in no page of the RAM')
      extents.push({ physical: place + view.getUint32(at + offset, true), length: view.getUint32(at + length, true) })
    }
  }
}

const lengthOf = (extents: readonly Extent[]): number => extents.reduce((sum, { length }) => sum + length, 0)

/** All bytes that a buffer says it has must have been found, and no more. */
function checkLengths(queue: BufferQueue, buffer: SocketBuffer): void {
  let found = lengthOf(buffer.extents)
  for (const { length, extents } of buffer.list) {
    if (lengthOf(extents) !== length) queue.fail('garbage', `a buffer of ${length} bytes has ${lengthOf(extents)}`)
    found += length
  }
  if (found !== buffer.length) queue.fail('garbage', `a buffer of ${buffer.length} bytes has ${found}`)
}
