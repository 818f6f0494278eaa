/** What a core and a vmcore have in common: a head, and memory behind it, of which an interrupted export leaves what it has for the next one. */
import { readBootIdentity } from '../boot-identity.js'
import type { KernelImage } from '../kernel-image.js'
import { pageBytes } from '../page-table-format.js'
import type { PhysicalMemory } from '../physical-memory.js'
import type { ElfNote } from './elf-writer.js'
import { copyPieces, SparseFile, type FilePiece, type StreamOptions } from './sparse-file.js'

export interface ResumableExport extends StreamOptions {
  /** The file; until it is whole it is called `PATH.part`. */
  readonly path: string
  /** What stands before the first piece, in whole pages; among it `identityNote`, so that what goes on is of the same machine. */
  readonly head: Uint8Array
  readonly physical: PhysicalMemory
  /** In the order of their offsets. */
  readonly pieces: AsyncIterable<FilePiece> | Iterable<FilePiece>
  /** Of all pieces. */
  readonly memoryBytes: number
  /** Length of the file when it is whole. */
  readonly fileBytes: number
}

export interface Exported {
  /** What this export has written that are no holes. */
  readonly writtenBytes: number
  /** Bytes of memory that an export before this one had copied. */
  readonly resumedBytes: number
}

/** Readers pass over it: its type is none of theirs, for not all of them look at names. */
const identity = { name: 'BACKDOORS', type: 0x424f_4f54 } as const

/**
 * Tells one boot of a machine from another, and in it what is exported from all else, so that two are never mixed in one file.
 * @throws BackdoorsError what reading throws
 */
export async function identityNote(image: KernelImage, ...what: readonly bigint[]): Promise<ElfNote> {
  return { ...identity, description: Buffer.concat([Buffer.from(await readBootIdentity(image), 'hex'), new Uint8Array(BigUint64Array.from(what).buffer)]) }
}

/**
 * Goes on with the `PATH.part` that an export before has left, if it begins with the same head, and else begins anew.
 * @throws BackdoorsError FILE_IN_USE while another export writes it, SYSTEM_CALL_FAILED, what reading throws, and the reason of the signal;
 *   `PATH.part` is left then
 */
export async function exportResumably({ path, head, physical, pieces, memoryBytes, fileBytes, ...stream }: ResumableExport): Promise<Exported> {
  const { file, from } = await begin(path, head)
  try {
    const resumedBytes = await copyPieces(file, physical, pieces, { ...stream, from, total: memoryBytes })
    await file.finish(fileBytes)
    return { writtenBytes: file.written, resumedBytes }
  } catch (error) {
    await file.close()
    throw error
  }
}

/** @returns the file, and where in it what is there ends */
async function begin(path: string, head: Uint8Array): Promise<{ file: SparseFile; from: number }> {
  const { file, length } = await SparseFile.open(path, head)
  // The last page may have been written in part.
  const from = Math.max(head.length, Math.floor(length / pageBytes) * pageBytes)
  try {
    if (length === 0) file.write(0, head)
    await file.truncate(from)
    return { file, from }
  } catch (error) {
    await file.close()
    throw error
  }
}
