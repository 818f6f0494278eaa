/**
 * The kernel's log, as `dmesg` shows it: the ring buffer of printk.
 *
 * Source: kernel/printk/printk_ringbuffer.h and .c of the Linux kernel (since 5.10). A ring of descriptors, of which each has
 * an info (time, level, …) at the same place in a second ring and a block of text in a third. Positions in the rings
 * only grow; the place is what is left of them by the size. A descriptor's state word holds its number and, in the two
 * highest bits, how far its writer got.
 */
import { BackdoorsError } from '../../errors.js'
import type { KernelImage } from '../kernel-image.js'
import { Selection, type KernelObject } from '../kernel-object.js'
import { readPieces, type Pieces } from '../pieces.js'
import type { Faults } from '../walks.js'

export interface LogEntry {
  /** Number of the message since boot. */
  readonly sequence: bigint
  /** Nanoseconds of the kernel's own clock since boot. */
  readonly timeNs: bigint
  /** 0 (emergency) to 7 (debug). */
  readonly level: number
  /** As of syslog: 0 is the kernel itself. */
  readonly facility: number
  /** The thread that wrote it, or the CPU where none did (in an interrupt). */
  readonly caller: { readonly task: number } | { readonly cpu: number }
  /** May have several lines. Bytes that are no UTF-8 are shown as U+FFFD. */
  readonly text: string
  /** The device that the message is about. */
  readonly device?: { readonly subsystem: string; readonly name: string }
  /** Its writer had not finished: a line that might have been continued. */
  readonly isOpen?: true
}

export interface KernelLog {
  /** By their sequence. */
  readonly entries: readonly LogEntry[]
  /** Messages that a writer had begun and never wrote: it was stopped, or is at it. */
  readonly unfinished: number
  /** Messages without text, since there was no room for it, or it was written over while it was read. */
  readonly lost: number
  readonly faults: Faults
}

/** Of the largest buffers that can be asked for at boot (`log_buf_len`), what is believed: 64 MiB of text. */
const mostSizeBits = 26
const mostCountBits = 20
/** A descriptor has 24, an info 88. */
const mostElementBytes = 128
const stateShift = 62n
const idMask = (1n << stateShift) - 1n
/** `enum desc_state`; 2 is finalized: no more is added. */
const [reserved, committed, reusable] = [0n, 1n, 3n]
/** A message that is an empty line has no block: `NO_LPOS`, in later kernels `EMPTY_LINE_LPOS`. */
const emptyLine = 3n
/** `struct prb_data_block`: the number of its descriptor, then the text. */
const blockHeadBytes = 8
const blockAlignment = 8n
/** `caller_id`: a CPU, not a thread. */
const callerIsCpu = 0x8000_0000

const wrap = (value: bigint): bigint => BigInt.asUintN(64, value)

/** The numbers of a `struct printk_ringbuffer`. */
interface Ring {
  readonly countBits: number
  readonly sizeBits: number
  readonly head: bigint
  readonly tail: bigint
  readonly textTail: bigint
  readonly descriptorsAt: bigint
  readonly infosAt: bigint
  readonly textAt: bigint
}

/** The three rings as they were read, and how their elements are laid out. */
interface Contents {
  readonly image: KernelImage
  readonly ring: Ring
  readonly layout: Layout
  readonly descriptors: Pieces
  readonly infos: Pieces
  readonly text: Pieces
}

interface Layout {
  readonly ring: Selection
  readonly descriptor: Selection
  readonly info: Selection
  readonly descriptorBytes: number
  readonly infoBytes: number
}

/**
 * Reads the kernel's log: three batches, whatever its length.
 * @throws BackdoorsError KERNEL_UNSUPPORTED (before Linux 5.10), KERNEL_DATA_CORRUPT where the ring's own description is
 *   damaged, NOT_MAPPED, and what reading throws
 */
export async function readLog(image: KernelImage): Promise<KernelLog> {
  const layout = layoutOf(image)
  const at = await image.variable('prb')
  const ring = ringOf(image, await image.readObject(layout.ring, at))
  const faults: Faults = []
  const [descriptors, infos, text] = (await readPieces(image.memory, [
    { address: ring.descriptorsAt, length: layout.descriptorBytes << ring.countBits },
    { address: ring.infosAt, length: layout.infoBytes << ring.countBits },
    { address: ring.textAt, length: 2 ** ring.sizeBits },
  ], faults)) as [Pieces, Pieces, Pieces]
  // A living kernel has written on meanwhile: what it has given up since then may be written over.
  const after = ringOf(image, await image.readObject(layout.ring, at))
  const found = decode({ image, layout, ring: { ...ring, tail: after.tail, textTail: after.textTail }, descriptors, infos, text }, faults)
  return { ...found, faults }
}

/** @throws BackdoorsError KERNEL_UNSUPPORTED */
function layoutOf({ types }: KernelImage): Layout {
  const ring = new Selection(types, 'printk_ringbuffer', [
    'desc_ring.count_bits', 'desc_ring.descs', 'desc_ring.infos', 'desc_ring.head_id', 'desc_ring.tail_id',
    'text_data_ring.size_bits', 'text_data_ring.data', 'text_data_ring.tail_lpos',
  ])
  const descriptor = new Selection(types, 'prb_desc', ['state_var', 'text_blk_lpos.begin', 'text_blk_lpos.next'])
  const info = new Selection(types, 'printk_info', ['seq', 'ts_nsec', 'text_len', 'facility', 'level', 'caller_id'], ['dev_info.subsystem', 'dev_info.device'])
  const bytesOf = (name: string): number => {
    const bytes = types.sizeOf(types.find(name)?.id ?? 0)
    if (bytes <= mostElementBytes) return bytes
    throw new BackdoorsError('KERNEL_UNSUPPORTED', `This kernel's struct ${name} has ${bytes} bytes.`, { field: name })
  }
  return { ring, descriptor, info, descriptorBytes: bytesOf('prb_desc'), infoBytes: bytesOf('printk_info') }
}

/** @throws BackdoorsError KERNEL_DATA_CORRUPT */
function ringOf(image: KernelImage, ring: KernelObject): Ring {
  const [countBits, sizeBits] = [ring.number('desc_ring.count_bits'), ring.number('text_data_ring.size_bits')]
  const [head, tail] = [ring.unsigned('desc_ring.head_id') & idMask, ring.unsigned('desc_ring.tail_id') & idMask]
  const isSound = countBits >= 1 && countBits <= mostCountBits && sizeBits >= 4 && sizeBits <= mostSizeBits && ((head - tail) & idMask) < 1n << BigInt(countBits)
  if (!isSound) throw new BackdoorsError('KERNEL_DATA_CORRUPT', `The log of ${image.peer} claims 2^${countBits} messages, of them ${tail} to ${head}, in 2^${sizeBits} bytes.`, { peer: image.peer, address: ring.address, field: 'prb' })
  return {
    countBits, sizeBits, head, tail,
    textTail: ring.unsigned('text_data_ring.tail_lpos'),
    descriptorsAt: ring.pointer('desc_ring.descs'), infosAt: ring.pointer('desc_ring.infos'), textAt: ring.pointer('text_data_ring.data'),
  }
}

/** What the slot of one descriptor holds. */
type Found = LogEntry | 'nothing' | 'unfinished' | 'lost' | 'damaged'

function decode(contents: Contents, faults: Faults): Omit<KernelLog, 'faults'> {
  const { image, ring } = contents
  const found: { readonly entry: LogEntry; readonly ahead: bigint }[] = []
  const counts = { nothing: 0, unfinished: 0, lost: 0, damaged: 0 }
  // A head that has gone round since the tail was read leaves nothing.
  const count = Math.min(Number((ring.head - ring.tail) & idMask), 2 ** ring.countBits - 1)
  for (let i = 0; i <= count; i++) {
    const entry = entryAt(contents, (ring.tail + BigInt(i)) & idMask)
    if (typeof entry === 'string') counts[entry]++
    else found.push({ entry, ahead: entry.sequence - BigInt(i) })
  }
  // Messages and descriptors are numbered in step: a message that is out of step with most is not what it says.
  const usual = mostCommon(found.map(({ ahead }) => ahead))
  const entries = found.filter(({ ahead }) => ahead === usual).map(({ entry }) => entry)
  const damaged = counts.damaged + found.length - entries.length
  if (damaged > 0) faults.push(new BackdoorsError('KERNEL_DATA_CORRUPT', `${damaged} messages in the log of ${image.peer} are damaged.`, { peer: image.peer, field: 'prb' }))
  return { entries, unfinished: counts.unfinished, lost: counts.lost }
}

function mostCommon(values: readonly bigint[]): bigint | undefined {
  const counts = new Map<bigint, number>()
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1)
  return [...counts].reduce<[bigint | undefined, number]>((most, one) => (one[1] > most[1] ? one : most), [undefined, 0])[0]
}

function entryAt({ ring, layout, descriptors, infos, text }: Contents, id: bigint): Found {
  const mask = (1n << BigInt(ring.countBits)) - 1n
  const index = Number(id & mask)
  const descriptor = descriptors.object(layout.descriptor, index, layout.descriptorBytes)
  const info = infos.object(layout.info, index, layout.infoBytes)
  if (descriptor === undefined || info === undefined) return 'nothing'
  const state = descriptor.unsigned('state_var')
  const phase = state >> stateShift
  // A number that is not its own: the ring has never come so far, or its writer has only just taken it.
  if (phase === reusable || (state & idMask) !== id) return 'nothing'
  if (phase === reserved) return 'unfinished'
  const bytes = textOf(ring, text, descriptor, id)
  if (typeof bytes === 'string') return bytes
  return entryOf(info, bytes.subarray(0, info.number('text_len')), phase === committed)
}

/** As the kernel's own `get_data` finds a block, and with its checks. */
function textOf(ring: Ring, text: Pieces, descriptor: KernelObject, id: bigint): Uint8Array | 'lost' | 'damaged' {
  const [begin, next] = [descriptor.unsigned('text_blk_lpos.begin'), descriptor.unsigned('text_blk_lpos.next')]
  // Odd positions are no blocks: an empty line, or one for which there was no room.
  if (begin === emptyLine && next === emptyLine) return new Uint8Array(0)
  if ((begin & 1n) === 1n && (next & 1n) === 1n) return 'lost'
  if (begin % blockAlignment !== 0n || next % blockAlignment !== 0n) return 'damaged'
  // The tail has gone on beyond it while it was read.
  if (BigInt.asIntN(64, begin - ring.textTail) < 0n) return 'lost'
  const size = BigInt(2 ** ring.sizeBits)
  const [round, nextRound] = [begin / size, next / size]
  const isWhole = round === nextRound || (next % size === 0n && wrap(begin - (begin % size) + size) === next)
  if (isWhole ? wrap(next - begin) > size || next === begin : wrap(begin + size) / size !== nextRound) return 'damaged'
  // A block that does not fit before the end stands whole at the start.
  const start = isWhole ? Number(begin % size) : 0
  const length = Number(isWhole ? wrap(next - begin) : next % size)
  const block = length < blockHeadBytes ? undefined : text.bytes(start, length)
  if (block === undefined || new DataView(block.buffer, block.byteOffset).getBigUint64(0, true) !== id) return 'damaged'
  return block.subarray(blockHeadBytes)
}

function entryOf(info: KernelObject, text: Uint8Array, isOpen: boolean): LogEntry {
  const caller = info.number('caller_id')
  const [subsystem, name] = ['dev_info.subsystem', 'dev_info.device'].map((path) => (info.selection.has(path) ? info.text(path) : ''))
  return {
    sequence: info.unsigned('seq'),
    timeNs: info.unsigned('ts_nsec'),
    level: info.number('level'),
    facility: info.number('facility'),
    caller: caller >= callerIsCpu ? { cpu: caller - callerIsCpu } : { task: caller },
    text: new TextDecoder('utf-8', { ignoreBOM: true }).decode(text),
    ...(subsystem && name ? { device: { subsystem, name } } : {}),
    ...(isOpen ? { isOpen: true as const } : {}),
  }
}

/** The lines of a message as `dmesg` prints them, each with its time. */
export function linesOf({ timeNs, text }: LogEntry): string[] {
  const microseconds = timeNs / 1000n
  const stamp = `[${String(microseconds / 1_000_000n).padStart(5)}.${String(microseconds % 1_000_000n).padStart(6, '0')}] `
  return text.split('\n').map((line) => stamp + line)
}
