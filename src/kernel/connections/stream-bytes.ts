/** The bytes of many streams, read in few batches: each goes to its place, none is looked at. */
import { BackdoorsError } from '../../errors.js'
import type { MemoryRange } from '../../fabric/remote-memory.js'
import type { KernelImage } from '../kernel-image.js'
import { readMerged } from '../merged-reads.js'
import { bytesOf, joined, type Slice } from '../slice.js'
import type { VirtualRange } from '../virtual-memory.js'
import type { PlannedPiece } from './sequence.js'

export interface PlannedStream {
  readonly length: number
  readonly pieces: readonly PlannedPiece[]
}

/** Bytes that are read at once. */
const batchBytes = 32 << 20
const noBytes = new Uint8Array(0)

/**
 * @returns for each stream its bytes, or why they cannot be read
 * @throws what reading throws but for what is not mapped
 */
export async function readStreams(image: KernelImage, streams: readonly PlannedStream[]): Promise<(Uint8Array | string)[]> {
  const read: (Uint8Array | string)[] = []
  for (let from = 0; from < streams.length;) {
    let [end, bytes] = [from, 0]
    while (end < streams.length && (end === from || bytes + (streams[end] as PlannedStream).length <= batchBytes)) bytes += (streams[end++] as PlannedStream).length
    for (const stream of await readBatch(image, streams.slice(from, end))) read.push(stream)
    from = end
  }
  return read
}

/** A piece on its way into its stream. */
interface Wanted {
  readonly stream: number
  readonly piece: PlannedPiece
}

async function readBatch(image: KernelImage, streams: readonly PlannedStream[]): Promise<(Uint8Array | string)[]> {
  const read = streams.map(({ length }): Uint8Array | string => (length === 0 ? noBytes : new Uint8Array(length)))
  const [virtual, physical]: [Wanted[], Wanted[]] = [[], []]
  for (const [stream, { pieces }] of streams.entries()) for (const piece of pieces) ('address' in piece.extent ? virtual : physical).push({ stream, piece })
  const [fromKernel, fromPages] = await Promise.all([readVirtual(image, virtual), readPhysical(image, physical)])
  const place = ({ stream, piece: { at } }: Wanted, slice: Slice | string): void => {
    const target = read[stream]
    if (typeof target === 'string' || target === undefined) return
    if (typeof slice === 'string') read[stream] = slice
    else target.set(bytesOf(slice), at)
  }
  for (const [i, wanted] of virtual.entries()) place(wanted, fromKernel[i] as Slice | string)
  for (const [i, wanted] of physical.entries()) place(wanted, fromPages[i] as Slice | string)
  return read
}

async function readVirtual({ memory }: KernelImage, wanted: readonly Wanted[]): Promise<(Slice | string)[]> {
  if (wanted.length === 0) return []
  const ranges = wanted.map(({ piece: { extent, skip, length } }): VirtualRange => ({ address: BigInt.asUintN(64, ('address' in extent ? extent.address : 0n) + BigInt(skip)), length }))
  return (await memory.tryReadSlices(ranges)).map((slice) => (slice instanceof BackdoorsError ? slice.message : slice))
}

async function readPhysical({ physical, peer }: KernelImage, wanted: readonly Wanted[]): Promise<(Slice | string)[]> {
  const places = wanted.map(({ piece: { extent, skip, length } }) => physical.locate({ physical: ('physical' in extent ? extent.physical : NaN) + skip, length }))
  const ranges: MemoryRange[] = places.flatMap((parts) => parts ?? [])
  const slices = ranges.length === 0 ? [] : await readMerged(physical.memory, ranges, physical.cost)
  let next = 0
  return places.map((parts) => {
    if (parts === undefined) return `a piece of a buffer lies outside the RAM of ${peer}`
    return parts.length === 1 ? (slices[next++] as Slice) : joined(slices.slice(next, (next += parts.length)))
  })
}
