/**
 * A large file that is written in order, while more is being read: zeros become holes, nobody else may read it, and it bears its
 * name only when it is whole.
 */
import { constants } from 'node:fs'
import { lstat, open, readFile, rename, rm, type FileHandle } from 'node:fs/promises'
import { constants as osConstants } from 'node:os'
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

const { errno: errnos } = osConstants
const mode = 0o600
/** One read of remote memory at most, and one batch of them where nobody says otherwise. In bytes. */
const readBytes = 64 << 10
const usualBatchBytes = 4 << 20
/** The length is brought up to what is done so often, so that a row of zeros is not read again. In batches. */
const batchesPerMark = 16

/** How a file system without locks says so. */
const withoutLocks: readonly number[] = [errnos.ENOSYS, errnos.EOPNOTSUPP, errnos.ENOLCK]

interface FileIdentity {
  readonly dev: bigint
  readonly ino: bigint
}

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
   * Goes on with the `PATH.part` that an earlier export has left, if it is this user's alone and begins with the same head; else begins it
   * anew, and does away with what is there. From here on it is this export's own, until it is closed or its process has ended.
   * A file system that has no locks cannot tell of another export: of two at once, one fails when it is done (`finish`).
   * @returns the file, and how much stands in it already, in bytes: 0 where it begins
   * @throws BackdoorsError FILE_IN_USE while another export writes it, SYSTEM_CALL_FAILED
   */
  static async open(path: string, head: Uint8Array): Promise<{ readonly file: SparseFile; readonly length: number }> {
    const part = `${path}.part`
    return await failing(part, 'open', async () => {
      for (;;) {
        const found = await openFound(part)
        if (found !== undefined) {
          const length = await closingOnError(found, async () => {
            if (!(await makeOwn(found, part))) return undefined
            const there = await lengthWith(found, head)
            if (there === 0) await rm(part, { force: true })
            return there
          })
          if (length !== undefined && length > 0) return { file: new SparseFile(path, part, found), length }
          await found.close()
          if (length === undefined) continue
        }
        const begun = await begin(part)
        if (begun === undefined) continue
        if (await closingOnError(begun, () => makeOwn(begun, part))) return { file: new SparseFile(path, part, begun), length: 0 }
        await begun.close()
      }
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

  /** Gives the file its name. @param length in bytes @throws BackdoorsError FILE_IN_USE where `PATH.part` is another file by now, SYSTEM_CALL_FAILED */
  async finish(length: number): Promise<void> {
    await this.truncate(length)
    await failing(this.#part, 'fsync', () => this.#file.sync())
    const isThere = await failing(this.#part, 'fstat', async () => leadsTo(this.#part, await this.#file.stat({ bigint: true })))
    if (!isThere) throw new BackdoorsError('FILE_IN_USE', `${this.#part} has been removed, or replaced by another file, while it was being written. What was written is lost; export it again, or to another file.`, { path: this.#part })
    // Before the lock ends: whoever gets it finds no `PATH.part` any more.
    await failing(this.#part, 'rename', () => rename(this.#part, this.path))
    await this.close()
  }

  /** Leaves what there is so far, for the next `open`. */
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

/** @returns undefined where there is none; a link is done away with */
async function openFound(part: string): Promise<FileHandle | undefined> {
  try {
    return await open(part, constants.O_RDWR | constants.O_NOFOLLOW)
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    if (!['ENOENT', 'ELOOP'].includes(code)) throw error
    if (code !== 'ENOENT') await rm(part, { force: true })
    return undefined
  }
}

/** @returns undefined where another export has begun one at the same time */
async function begin(part: string): Promise<FileHandle | undefined> {
  try {
    return await open(part, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, mode)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return undefined
    throw error
  }
}

/**
 * Where the file system has no locks, it is taken without one.
 * @returns false where another export was done with the file before it was locked here, so that the path does not lead to it any more
 * @throws BackdoorsError FILE_IN_USE, SYSTEM_CALL_FAILED
 */
async function makeOwn(file: FileHandle, part: string): Promise<boolean> {
  const own = await file.stat({ bigint: true })
  if (!locked(file, part)) {
    throw new BackdoorsError('FILE_IN_USE', `${part} is being written by ${await lockHolder(own)}. Wait for it, end it (the next export goes on where it stopped), or write to another file.`, { path: part })
  }
  return await leadsTo(part, own)
}

function locked(file: FileHandle, part: string): boolean {
  try {
    return memoryAddon().lockFile(file.fd, part)
  } catch (error) {
    if (isBackdoorsError(error, 'SYSTEM_CALL_FAILED') && withoutLocks.includes(error.details.errno as number)) return true
    throw error
  }
}

/** Is it that file, and no other in its place? */
async function leadsTo(part: string, own: FileIdentity): Promise<boolean> {
  const there = await lstat(part, { bigint: true }).catch(() => undefined)
  return there?.ino === own.ino && there.dev === own.dev
}

/** From /proc/locks, which names file systems and processes as this machine's kernel knows them, and so does not always tell. */
async function lockHolder({ dev, ino }: FileIdentity): Promise<string> {
  const hex = (number: bigint): string => number.toString(16).padStart(2, '0')
  const [major, minor] = [((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn), (dev & 0xffn) | ((dev >> 12n) & ~0xffn)]
  const locks = await readFile('/proc/locks', 'latin1').catch(() => '')
  const holder = locks.split('\n').map((line) => line.trim().split(/\s+/)).find(([, kind, , , , file]) => kind === 'FLOCK' && file === `${hex(major)}:${hex(minor)}:${ino}`)
  return holder === undefined ? 'another process' : `process ${holder[4]}`
}

/** @returns the length of the file in bytes; 0 where it is not this user's alone, or begins with another head */
async function lengthWith(file: FileHandle, head: Uint8Array): Promise<number> {
  const { uid, nlink, size, mode: found } = await file.stat()
  const isOurs = uid === process.getuid?.() && nlink === 1 && (found & 0o170_777) === (constants.S_IFREG | mode)
  const begins = new Uint8Array(head.length)
  return !isOurs || size < head.length || (await file.read(begins, 0, head.length, 0)).bytesRead < head.length || Buffer.compare(begins, head) !== 0 ? 0 : size
}

async function closingOnError<T>(file: FileHandle, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    await file.close()
    throw error
  }
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
