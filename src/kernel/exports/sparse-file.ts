/**
 * A large file that is written in order, while more is being read: zeros become holes, nobody else may read it, and it bears its
 * name only when it is whole.
 */
import { constants } from 'node:fs'
import { open, rename, rm, type FileHandle } from 'node:fs/promises'
import { BackdoorsError, isBackdoorsError } from '../../errors.js'
import { memoryAddon } from '../../native/load.js'
import { pageBytes } from '../page-table-format.js'
import type { PhysicalMemory, PhysicalRange } from '../physical-memory.js'

/** What is to stand in the file from `offset` on. In bytes. */
export interface FilePiece extends PhysicalRange {
  readonly offset: number
}

export interface ExportProgress {
  /** In bytes of memory. */
  readonly done: number
  readonly total: number
}

export interface StreamOptions {
  /** Batches that are read at the same time; 4 by default. A wire is filled by many reads at once. */
  readonly readsInFlight?: number | undefined
  /** Of one batch at most; 4 MiB by default. */
  readonly batchBytes?: number | undefined
  readonly onProgress?: ((progress: ExportProgress) => void) | undefined
  /** Ends the export before its next batch. */
  readonly signal?: AbortSignal | undefined
}

const mode = 0o600
/** One read of remote memory at most, and one batch of them where nobody says otherwise. In bytes. */
const readBytes = 64 << 10
const usualBatchBytes = 4 << 20
/** The length is brought up to what is done so often, so that a row of zeros is not read again. In batches. */
const batchesPerMark = 16

export class SparseFile {
  readonly path: string
  readonly #part: string
  readonly #file: FileHandle
  /** Bytes that are not holes. */
  written = 0

  private constructor(path: string, part: string, file: FileHandle) {
    this.path = path
    this.#part = part
    this.#file = file
  }

  /**
   * Begins the file, under the name `PATH.part`; what an earlier export has left there is done away with.
   * @throws BackdoorsError SYSTEM_CALL_FAILED
   */
  static async create(path: string): Promise<SparseFile> {
    const part = `${path}.part`
    return await failing(part, 'open', async () => {
      await rm(part, { force: true })
      return new SparseFile(path, part, await open(part, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, mode))
    })
  }

  /**
   * Goes on with a file that an earlier export has left, if it begins with the same head.
   * @returns undefined where there is none, or it is another's
   * @throws BackdoorsError SYSTEM_CALL_FAILED
   */
  static async resume(path: string, head: Uint8Array): Promise<{ readonly file: SparseFile; readonly length: number } | undefined> {
    const part = `${path}.part`
    return await failing(part, 'open', async () => {
      const file = await open(part, constants.O_RDWR | constants.O_NOFOLLOW).catch((error: unknown) => {
        if (['ENOENT', 'ELOOP', 'EACCES', 'EISDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined
        throw error
      })
      if (file === undefined) return undefined
      const { uid, nlink, size, mode: found } = await file.stat()
      const isOurs = uid === process.getuid?.() && nlink === 1 && (found & 0o170_777) === (constants.S_IFREG | mode)
      const begins = new Uint8Array(head.length)
      if (!isOurs || size < head.length || (await file.read(begins, 0, head.length, 0)).bytesRead < head.length || Buffer.compare(begins, head) !== 0) return void (await file.close())
      return { file: new SparseFile(path, part, file), length: size }
    })
  }

  /** Writes pages, but not those of zeros: where the file has had nothing, they read as zeros anyway. @throws BackdoorsError SYSTEM_CALL_FAILED */
  write(offset: number, bytes: Uint8Array): void {
    this.written += memoryAddon().writeFilledPages(this.#file.fd, this.#part, offset, bytes)
  }

  /** Cuts the file off, or lengthens it by a hole. @throws BackdoorsError SYSTEM_CALL_FAILED */
  async truncate(length: number): Promise<void> {
    await failing(this.#part, 'ftruncate', () => this.#file.truncate(length))
  }

  /** Gives the file its name. @param length in bytes @throws BackdoorsError SYSTEM_CALL_FAILED */
  async finish(length: number): Promise<void> {
    await this.truncate(length)
    await failing(this.#part, 'fsync', () => this.#file.sync())
    await this.close()
    await failing(this.#part, 'rename', () => rename(this.#part, this.path))
  }

  /** Leaves what there is so far, for `resume`. */
  async close(): Promise<void> {
    await this.#file.close()
  }
}

export interface CopyOptions extends StreamOptions {
  /** What is to stand before this place in the file stands there already. */
  readonly from: number
  /** Bytes of all pieces, for progress. */
  readonly total: number
}

/**
 * Copies memory into the file: several batches are read at once, and written in order, so that the file's length tells how far
 * it has come.
 * @param pieces in the order of their offsets
 * @returns bytes of the pieces that were there before
 * @throws BackdoorsError SYSTEM_CALL_FAILED, what reading throws, and the reason of the signal
 */
export async function copyPieces(file: SparseFile, physical: PhysicalMemory, pieces: AsyncIterable<FilePiece> | Iterable<FilePiece>, { readsInFlight = 4, batchBytes = usualBatchBytes, onProgress, signal, from, total }: CopyOptions): Promise<number> {
  let [skipped, copied, sinceMark, isBegun] = [0, 0, 0, false]
  /** The batches under way, each done when it has been written, and the one before it. */
  const flying: Promise<void>[] = []
  const land = async (batch: readonly FilePiece[], found: readonly Uint8Array[], before: Promise<void>): Promise<void> => {
    await before
    signal?.throwIfAborted()
    for (const { offset, bytes } of joined(batch, found)) file.write(offset, bytes)
    const { offset, length } = batch.at(-1) as FilePiece
    if (++sinceMark >= batchesPerMark) {
      await file.truncate(offset + length)
      sinceMark = 0
    }
    copied += found.reduce((sum, bytes) => sum + bytes.length, 0)
    onProgress?.({ done: skipped + copied, total })
  }
  const start = (): void => {
    if (!isBegun) onProgress?.({ done: skipped, total })
    isBegun = true
  }
  try {
    for await (const batch of batchesOf(behind(pieces, from, (bytes) => (skipped += bytes)), batchBytes)) {
      start()
      signal?.throwIfAborted()
      if (flying.length >= readsInFlight) await flying.shift()
      const before = flying.at(-1) ?? Promise.resolve()
      const written = physical.readLent(batch, (found) => land(batch, found, before))
      // It may fail while an earlier one is waited for, and is looked at in its turn.
      written.catch(() => undefined)
      flying.push(written)
    }
    start()
    while (flying.length > 0) await flying.shift()
    return skipped
  } finally {
    await Promise.allSettled(flying)
  }
}

/** The pieces, or what of them lies behind `from`. @param skip told of what does not, in bytes */
async function* behind(pieces: AsyncIterable<FilePiece> | Iterable<FilePiece>, from: number, skip: (bytes: number) => void): AsyncGenerator<FilePiece> {
  for await (const { offset, physical, length } of pieces) {
    const before = Math.min(length, Math.max(0, from - offset))
    if (before > 0) skip(before)
    if (before < length) yield { offset: offset + before, physical: physical + before, length: length - before }
  }
}

/** What lies side by side in memory as in the file goes by one call. */
function joined(batch: readonly FilePiece[], found: readonly Uint8Array[]): { offset: number; bytes: Uint8Array }[] {
  const parts: { offset: number; bytes: Uint8Array }[] = []
  for (const [i, bytes] of found.entries()) {
    const { offset } = batch[i] as FilePiece
    const last = parts.at(-1)
    const isNext = last !== undefined && last.offset + last.bytes.length === offset && last.bytes.length % pageBytes === 0
      && last.bytes.buffer === bytes.buffer && last.bytes.byteOffset + last.bytes.length === bytes.byteOffset
    if (isNext) last.bytes = new Uint8Array(bytes.buffer, last.bytes.byteOffset, last.bytes.length + bytes.length)
    else parts.push({ offset, bytes })
  }
  return parts
}

/** Pieces cut to what one read takes, and gathered to batches. */
async function* batchesOf(pieces: AsyncIterable<FilePiece>, batchBytes: number): AsyncGenerator<FilePiece[]> {
  let batch: FilePiece[] = []
  let bytes = 0
  for await (const { offset, physical, length } of pieces) {
    for (let at = 0; at < length;) {
      const part = Math.min(readBytes, length - at, batchBytes - bytes)
      batch.push({ offset: offset + at, physical: physical + at, length: part })
      at += part
      bytes += part
      if (bytes < batchBytes) continue
      yield batch
      batch = []
      bytes = 0
    }
  }
  if (batch.length > 0) yield batch
}

async function failing<T>(path: string, call: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (isBackdoorsError(error)) throw error
    const { code, errno, message } = error as NodeJS.ErrnoException
    throw new BackdoorsError('SYSTEM_CALL_FAILED', `${call} of ${path}: ${message}`, { path, call, cause: error, ...(errno === undefined ? {} : { errno: Math.abs(errno) }), ...(code === undefined ? {} : { errnoName: code }) })
  }
}
