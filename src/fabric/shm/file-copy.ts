/** Copies ranges out of a peer's file, in parts so short that the event loop is never held for long. */
import { getSystemErrorName } from 'node:util'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { BackdoorsError } from '../../errors.js'
import type { FileReader } from '../../native/memory.js'
import { sumUp } from '../bulk-reads.js'
import type { MemoryRange, SummedParts } from '../remote-memory.js'

/** In one turn of the event loop at most: a memory copy of some hundred microseconds, or, of a few bytes each, as many system calls. */
const turnBytes = 4 * 1024 * 1024
const turnRanges = 2000
/** Copies that follow each other hold the event loop for so long, in milliseconds. */
const turnMs = 5
/** Below this, waking a thread takes as long as what it takes off this one. */
const helpedFromBytes = 128 * 1024

export interface CopySource {
  readonly peer: string
  readonly file: FileReader
  /** @throws BackdoorsError CLOSED */
  checkOpen: (range: MemoryRange) => void
}

/** A copy that can be run many times; a run allocates nothing as long as it takes one turn. */
export class FileCopy {
  readonly #source: CopySource
  readonly #target: Uint8Array
  /** One per turn: [offset, length, position] triples. */
  readonly #turns: readonly Float64Array[]

  /** The ranges lie within the memory; `positions` say where in the target each is put. */
  constructor(source: CopySource, ranges: readonly MemoryRange[], positions: readonly number[], target: Uint8Array) {
    this.#source = source
    this.#target = target
    this.#turns = turnsOf(ranges, positions)
  }

  /** @throws BackdoorsError CLOSED, MEMORY_LOST, SYSTEM_CALL_FAILED */
  async run(): Promise<void> {
    for (const [index, triples] of this.#turns.entries()) {
      if (index > 0) {
        await nextTurn()
        this.#source.checkOpen(rangeOf(triples, 0))
      }
      const errno = this.#source.file.read(triples, triples.length / 3, this.#target)
      if (errno !== 0) throw failed(this.#source, triples, errno)
    }
  }
}

/**
 * Copies that are followed by others of their kind: parts that take their CRCs with them. Memory that is read without end lets others run
 * now and then.
 */
export class SummedCopies {
  readonly #source: CopySource
  readonly #isHelped: boolean
  #isUnderWay = false
  #turnMs = performance.now()

  /** @param isHelped by another thread: pointless where there is one processor */
  constructor(source: CopySource, isHelped: boolean) {
    this.#source = source
    this.#isHelped = isHelped
  }

  /**
   * Where another thread helps, it copies from the call on, and this one once the caller awaits: what the caller has to do before then costs
   * no time. Where copies have followed each other for `turnMs`, it first awaits a turn of the event loop, and nothing is copied before. The parts lie within the memory.
   * @throws BackdoorsError as a FileCopy does
   */
  async run(parts: SummedParts, target: Uint8Array, crcs: Int32Array): Promise<void> {
    const { triples, count, skip, seed } = parts
    if (performance.now() - this.#turnMs > turnMs) {
      await nextTurn()
      this.#turnMs = performance.now()
      this.#source.checkOpen(rangeOf(triples, 0))
    }
    let bytes = 0
    for (let i = 0; i < count; i++) bytes += triples[3 * i + 1] as number
    if (bytes > turnBytes) return await this.#runInTurns(parts, target, crcs)
    const isHelped = this.#isHelped && !this.#isUnderWay && bytes >= helpedFromBytes
    const errno = isHelped ? await this.#runHelped(parts, target, crcs) : this.#source.file.readSummed(triples, count, target, skip, seed | 0, crcs)
    if (errno !== 0) throw failed(this.#source, triples.subarray(0, 3 * count), errno)
  }

  async #runHelped({ triples, count, skip, seed }: SummedParts, target: Uint8Array, crcs: Int32Array): Promise<number> {
    const { file, checkOpen } = this.#source
    file.beginSummed(triples, count, target, skip, seed | 0, crcs)
    this.#isUnderWay = true
    await Promise.resolve()
    this.#isUnderWay = false
    checkOpen(rangeOf(triples, 0))
    return file.endSummed()
  }

  async #runInTurns(parts: SummedParts, target: Uint8Array, crcs: Int32Array): Promise<void> {
    const ranges = Array.from({ length: parts.count }, (_, index) => rangeOf(parts.triples, index))
    const positions = ranges.map((_, index) => parts.triples[3 * index + 2] as number)
    await new FileCopy(this.#source, ranges, positions, target).run()
    sumUp(parts, target, crcs)
  }
}

function failed({ peer, file }: CopySource, triples: Float64Array, errno: number): BackdoorsError {
  const name = getSystemErrorName(-errno)
  const fileLength = file.length()
  const ranges = Array.from({ length: triples.length / 3 }, (_, index) => rangeOf(triples, index))
  // The addon does not say which it was. Of a file that was cut off it is the first that is no longer there.
  const range = ranges.find(({ offset, length }) => offset + length > fileLength) ?? rangeOf(triples, 0)
  const about = `${String(range.length)} bytes at offset ${String(range.offset)} of ${peer}`
  const details = { peer, ...range, path: file.path }
  if (name === 'ENODATA') return memoryLost(`read ${about}`, details, fileLength)
  return new BackdoorsError('SYSTEM_CALL_FAILED', `read ${about}: pread: ${name}`, { ...details, errno, errnoName: name, call: 'pread' })
}

/** Bytes that were there when the file was opened are there no longer. */
export function memoryLost(doing: string, details: { peer: string; path: string } & MemoryRange, fileLength: number): BackdoorsError {
  const now = `${details.path} has been cut off, to ${String(fileLength)} bytes`
  return new BackdoorsError('MEMORY_LOST', `${doing}: ${now}; its daemon has to make it anew`, details)
}

const rangeOf = (triples: Float64Array, index: number): MemoryRange => ({
  offset: triples[index * 3] ?? 0,
  length: triples[index * 3 + 1] ?? 0,
})

function turnsOf(ranges: readonly MemoryRange[], positions: readonly number[]): Float64Array[] {
  const turns: Float64Array[] = []
  let triples = new Float64Array(3 * Math.min(ranges.length, turnRanges))
  let count = 0
  let bytes = 0
  const endTurn = (): void => {
    turns.push(triples.subarray(0, count))
    triples = new Float64Array(triples.length)
    count = 0
    bytes = 0
  }
  for (let index = 0; index < ranges.length; index++) {
    const { offset, length } = ranges[index] as MemoryRange
    const position = positions[index] ?? 0
    for (let done = 0; done < length; ) {
      const part = Math.min(length - done, turnBytes - bytes)
      triples[count++] = offset + done
      triples[count++] = part
      triples[count++] = position + done
      done += part
      bytes += part
      if (bytes >= turnBytes || count >= triples.length) endTurn()
    }
  }
  if (count > 0) endTurn()
  return turns
}
