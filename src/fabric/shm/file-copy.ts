/** Copies ranges out of a peer's file, in parts so short that the event loop is never held for long. */
import { getSystemErrorName } from 'node:util'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { BackdoorsError } from '../../errors.js'
import type { FileReader } from '../../native/memory.js'
import type { MemoryRange } from '../remote-memory.js'

/** In one turn of the event loop at most: a memory copy of some hundred microseconds, or as many system calls. */
const turnBytes = 4 * 1024 * 1024
const turnRanges = 500

export interface CopySource {
  readonly peer: string
  readonly file: FileReader
  /** @throws BackdoorsError CLOSED */
  checkOpen(range: MemoryRange): void
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
      if (errno !== 0) throw this.#failed(triples, errno)
    }
  }

  #failed(triples: Float64Array, errno: number): BackdoorsError {
    const { peer, file } = this.#source
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
  let triples: number[] = []
  let bytes = 0
  const endTurn = (): void => {
    turns.push(Float64Array.from(triples))
    triples = []
    bytes = 0
  }
  ranges.forEach(({ offset, length }, index) => {
    const position = positions[index] ?? 0
    for (let done = 0; done < length; ) {
      const part = Math.min(length - done, turnBytes - bytes)
      triples.push(offset + done, part, position + done)
      done += part
      bytes += part
      if (bytes >= turnBytes || triples.length >= 3 * turnRanges) endTurn()
    }
  })
  if (triples.length > 0) endTurn()
  return turns
}
