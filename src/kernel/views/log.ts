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
import { bytesOf, type Slice } from '../slice.js'
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
/** `enum desc_state`; 2 is finalized: no more is added. */
const [reserved, committed, reusable] = [0, 1, 3]
/** A message that is an empty line has no block: `NO_LPOS`, in later kernels `EMPTY_LINE_LPOS`. */
const emptyLine = 3
/** `struct prb_data_block`: the number of its descriptor, then the text. */
const blockHeadBytes = 8
const blockAlignment = 8
/** `caller_id`: a CPU, not a thread. */
const callerIsCpu = 0x8000_0000

/*
 * Numbers of descriptors (62 bits) and positions (64 bits) begin a little below where they go round to 0. Read with a sign they
 * are small, and exact as numbers; those that are not are none that a kernel ever came to.
 */
const mostNumber = 2 ** 52
const idOf = (high: number, low: number): number => ((high << 2) >> 2) * 2 ** 32 + low
const positionAt = (view: DataView, at: number): number => view.getInt32(at + 4, true) * 2 ** 32 + view.getUint32(at, true)
/** What is left of a number by a size, a power of 2. */
const within = (value: number, size: number): number => value - Math.floor(value / size) * size
const isOdd = (value: number): boolean => within(value, 2) === 1

/** The numbers of a `struct printk_ringbuffer`. */
interface Ring {
  readonly countBits: number
  readonly sizeBits: number
  readonly head: number
  readonly tail: number
  readonly textTail: number
  readonly descriptorsAt: bigint
  readonly infosAt: bigint
  readonly textAt: bigint
}

/** The three rings as they were read, and how their elements are laid out. */
interface Contents {
  readonly image: KernelImage
  readonly ring: Ring
  readonly layout: Layout
  readonly stretches: readonly ReadStretch[]
  readonly text: Pieces
}

/** Neighbouring places of the rings of descriptors and infos. */
interface Stretch {
  readonly first: number
  readonly count: number
}

interface ReadStretch extends Stretch {
  readonly descriptors: Pieces
  readonly infos: Pieces
}

interface Layout {
  readonly ring: Selection
  /** Where in a descriptor its three words are. */
  readonly state: number
  readonly begin: number
  readonly next: number
  readonly info: Selection
  readonly hasDevice: boolean
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
  const used = stretchesOf(ring)
  const elements = ({ first, count }: Stretch, start: bigint, elementBytes: number) => ({ address: BigInt.asUintN(64, start + BigInt(first * elementBytes)), length: count * elementBytes, elementBytes })
  // The text comes last: what a descriptor says is written has been written by then.
  const read = await readPieces(image.memory, [
    ...used.flatMap((stretch) => [elements(stretch, ring.descriptorsAt, layout.descriptorBytes), elements(stretch, ring.infosAt, layout.infoBytes)]),
    { address: ring.textAt, length: 2 ** ring.sizeBits },
  ], faults)
  const stretches = used.map((stretch, i) => ({ ...stretch, descriptors: read[2 * i] as Pieces, infos: read[2 * i + 1] as Pieces }))
  const text = read.at(-1) as Pieces
  // A living kernel has written on meanwhile: what it has given up since then may be written over.
  const after = ringOf(image, await image.readObject(layout.ring, at))
  const found = decode({ image, layout, ring: { ...ring, tail: after.tail, textTail: after.textTail }, stretches, text }, faults)
  return { ...found, faults }
}

/** The places that are in use, from the tail to the head: two stretches where they go round the end. */
function stretchesOf({ countBits, head, tail }: Ring): Stretch[] {
  const places = 2 ** countBits
  const [first, count] = [within(tail, places), head - tail + 1]
  const beforeEnd = Math.min(count, places - first)
  return beforeEnd === count ? [{ first, count }] : [{ first, count: beforeEnd }, { first: 0, count: count - beforeEnd }]
}

/** @throws BackdoorsError KERNEL_UNSUPPORTED */
function layoutOf({ types }: KernelImage): Layout {
  const ring = new Selection(types, 'printk_ringbuffer', [
    'desc_ring.count_bits', 'desc_ring.descs', 'desc_ring.infos', 'desc_ring.head_id', 'desc_ring.tail_id',
    'text_data_ring.size_bits', 'text_data_ring.data', 'text_data_ring.tail_lpos',
  ])
  const descriptor = new Selection(types, 'prb_desc', ['state_var', 'text_blk_lpos.begin', 'text_blk_lpos.next'])
  const info = new Selection(types, 'printk_info', ['seq', 'ts_nsec', 'text_len', 'facility', 'level', 'caller_id'], ['dev_info.subsystem', 'dev_info.device'])
  const sizeOf = (name: string): number => {
    const bytes = types.sizeOf(types.find(name)?.id ?? 0)
    if (bytes <= mostElementBytes) return bytes
    throw new BackdoorsError('KERNEL_UNSUPPORTED', `This kernel's struct ${name} has ${bytes} bytes.`, { field: name })
  }
  const wordOf = (member: string): number => {
    const { offset, length } = descriptor.field(member).member
    if (length === 8) return offset
    throw new BackdoorsError('KERNEL_UNSUPPORTED', `This kernel's prb_desc.${member} has ${length} bytes.`, { field: `prb_desc.${member}` })
  }
  return {
    ring, info, state: wordOf('state_var'), begin: wordOf('text_blk_lpos.begin'), next: wordOf('text_blk_lpos.next'),
    hasDevice: info.has('dev_info.subsystem') && info.has('dev_info.device'), descriptorBytes: sizeOf('prb_desc'), infoBytes: sizeOf('printk_info'),
  }
}

/** @throws BackdoorsError KERNEL_DATA_CORRUPT */
function ringOf(image: KernelImage, ring: KernelObject): Ring {
  const [countBits, sizeBits] = [ring.number('desc_ring.count_bits'), ring.number('text_data_ring.size_bits')]
  const [head, tail] = [numberOf(ring, 'desc_ring.head_id', 62), numberOf(ring, 'desc_ring.tail_id', 62)]
  const textTail = numberOf(ring, 'text_data_ring.tail_lpos', 64)
  const isSound = countBits >= 1 && countBits <= mostCountBits && sizeBits >= 4 && sizeBits <= mostSizeBits && head >= tail && head - tail < 2 ** countBits && Math.abs(head) < mostNumber && Math.abs(tail) < mostNumber
  if (!isSound) throw new BackdoorsError('KERNEL_DATA_CORRUPT', `The log of ${image.peer} claims 2^${countBits} messages, of them ${tail} to ${head}, in 2^${sizeBits} bytes.`, { peer: image.peer, address: ring.address, field: 'prb' })
  return { countBits, sizeBits, head, tail, textTail, descriptorsAt: ring.pointer('desc_ring.descs'), infosAt: ring.pointer('desc_ring.infos'), textAt: ring.pointer('text_data_ring.data') }
}

const numberOf = (ring: KernelObject, path: string, bits: number): number => Number(BigInt.asIntN(bits, ring.unsigned(path)))

/** What the slot of one descriptor holds. */
type Found = LogEntry | 'nothing' | 'unfinished' | 'lost' | 'damaged'

function decode(contents: Contents, faults: Faults): Omit<KernelLog, 'faults'> {
  const { image, ring } = contents
  const found: LogEntry[] = []
  const ahead: number[] = []
  const counts = { nothing: 0, unfinished: 0, lost: 0, damaged: 0 }
  // From the tail after the reading to the head before it: what was there all the while. A tail that has passed that head leaves nothing.
  const last = Math.min(ring.head, ring.tail + 2 ** ring.countBits - 1)
  for (let id = ring.tail; id <= last; id++) {
    const entry = entryAt(contents, id)
    if (typeof entry === 'string') counts[entry]++
    else {
      found.push(entry)
      const sequence = Number(entry.sequence)
      ahead.push(Number.isSafeInteger(sequence) ? sequence - id : NaN)
    }
  }
  // Messages and descriptors are numbered in step: a message that is out of step with most is not what it says.
  const usual = mostCommon(ahead)
  const entries = found.filter((_, i) => ahead[i] === usual)
  const damaged = counts.damaged + found.length - entries.length
  if (damaged > 0) faults.push(new BackdoorsError('KERNEL_DATA_CORRUPT', `${damaged} messages in the log of ${image.peer} are damaged.`, { peer: image.peer, field: 'prb' }))
  return { entries, unfinished: counts.unfinished, lost: counts.lost }
}

function mostCommon(values: readonly number[]): number | undefined {
  const counts = new Map<number, number>()
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1)
  return [...counts].reduce<[number | undefined, number]>((most, one) => (one[1] > most[1] ? one : most), [undefined, 0])[0]
}

function entryAt({ ring, layout, stretches, text }: Contents, id: number): Found {
  const place = within(id, 2 ** ring.countBits)
  const stretch = stretches.find(({ first, count }) => first <= place && place < first + count)
  if (stretch === undefined) return 'nothing'
  const index = place - stretch.first
  const descriptor = stretch.descriptors.slice(index * layout.descriptorBytes, layout.descriptorBytes)
  const info = stretch.infos.object(layout.info, index, layout.infoBytes)
  if (descriptor === undefined || info === undefined) return 'nothing'
  const state = descriptor.at + layout.state
  const high = descriptor.view.getUint32(state + 4, true)
  const phase = high >>> 30
  // A number that is not its own: the ring has never come so far, or its writer has only just taken it.
  if (phase === reusable || idOf(high, descriptor.view.getUint32(state, true)) !== id) return 'nothing'
  if (phase === reserved) return 'unfinished'
  const bytes = textOf(ring, layout, text, descriptor, id)
  if (typeof bytes === 'string') return bytes
  return entryOf(info, layout, bytes.subarray(0, info.number('text_len')), phase === committed)
}

const noText = new Uint8Array(0)

/** As the kernel's own `get_data` finds a block, and with its checks. */
function textOf(ring: Ring, layout: Layout, text: Pieces, { view, at }: Slice, id: number): Uint8Array | 'lost' | 'damaged' {
  const [begin, next] = [positionAt(view, at + layout.begin), positionAt(view, at + layout.next)]
  // Odd positions are no blocks: an empty line, or one for which there was no room.
  if (begin === emptyLine && next === emptyLine) return noText
  if (isOdd(begin) && isOdd(next)) return 'lost'
  const isPlace = begin % blockAlignment === 0 && next % blockAlignment === 0 && Number.isSafeInteger(begin) && Number.isSafeInteger(next)
  if (!isPlace) return 'damaged'
  // The tail has gone on beyond it while it was read.
  if (begin < ring.textTail) return 'lost'
  const size = 2 ** ring.sizeBits
  const [round, nextRound] = [Math.floor(begin / size), Math.floor(next / size)]
  const isWhole = round === nextRound || next === (round + 1) * size
  if (isWhole ? next <= begin : round + 1 !== nextRound) return 'damaged'
  // A block that does not fit before the end stands whole at the start.
  const start = isWhole ? within(begin, size) : 0
  const length = isWhole ? next - begin : within(next, size)
  const block = length < blockHeadBytes ? undefined : text.slice(start, length)
  const high = block?.view.getUint32(block.at + 4, true) ?? 0
  if (block === undefined || high >>> 30 !== 0 || idOf(high, block.view.getUint32(block.at, true)) !== id) return 'damaged'
  return bytesOf(block).subarray(blockHeadBytes)
}

const decoder = new TextDecoder('utf-8', { ignoreBOM: true })

function entryOf(info: KernelObject, { hasDevice }: Layout, text: Uint8Array, isOpen: boolean): LogEntry {
  const caller = info.number('caller_id')
  const entry: LogEntry = {
    sequence: info.unsigned('seq'),
    timeNs: info.unsigned('ts_nsec'),
    level: info.number('level'),
    facility: info.number('facility'),
    caller: caller >= callerIsCpu ? { cpu: caller - callerIsCpu } : { task: caller },
    text: decoder.decode(text),
  }
  const [subsystem, name] = hasDevice ? [info.text('dev_info.subsystem'), info.text('dev_info.device')] : ['', '']
  if (!isOpen && subsystem === '') return entry
  return { ...entry, ...(subsystem && name ? { device: { subsystem, name } } : {}), ...(isOpen ? { isOpen: true as const } : {}) }
}

/** The lines of a message as `dmesg` prints them, each with its time. */
export function linesOf({ timeNs, text }: LogEntry): string[] {
  const microseconds = timeNs / 1000n
  const stamp = `[${String(microseconds / 1_000_000n).padStart(5)}.${String(microseconds % 1_000_000n).padStart(6, '0')}] `
  return text.split('\n').map((line) => stamp + line)
}
