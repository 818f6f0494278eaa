/** Symbols and types of kernels that were met, kept in a folder: one file for each build id. */
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { mkdir, open, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { BackdoorsError } from '../errors.js'
import { packTables, unpackTables, type KernelTables, type SymbolCache } from './kernel-symbols.js'

/** Where kernels are kept that this user has met: `$XDG_CACHE_HOME/backdoors/symbols`, or that folder under `~/.cache`. */
export const defaultCacheFolder = (): string => join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'backdoors', 'symbols')

const folderMode = 0o700
const fileMode = 0o600
/** A kernel's tables take some 10 MiB; what is larger is not theirs. */
const mostBytes = 256 << 20

/**
 * A file that is damaged, or that somebody else may have written, is as good as none: it is ignored, and replaced when the
 * tables were read anew. So is one that cannot be read.
 *
 * @example
 * const image = await KernelImage.learn({ physical, cache: new DirectorySymbolCache('/var/cache/backdoors/kernels') })
 */
export class DirectorySymbolCache implements SymbolCache {
  readonly path: string

  /** @param path of the folder; made when something is stored, with its parents */
  constructor(path: string) {
    this.path = path
  }

  /** Undefined where there are none, or they are not to be trusted. */
  async load(buildId: string): Promise<KernelTables | undefined> {
    const bytes = await readOwn(this.#fileOf(buildId))
    return bytes && unpackTables(bytes)
  }

  /** @throws BackdoorsError SYSTEM_CALL_FAILED, INVALID_ARGUMENT for a build id that is none */
  async store(buildId: string, tables: KernelTables): Promise<void> {
    const path = this.#fileOf(buildId)
    const temporary = join(this.path, `.${randomBytes(8).toString('hex')}.tmp`)
    try {
      await mkdir(this.path, { recursive: true, mode: folderMode })
      const file = await open(temporary, 'wx', fileMode)
      try {
        await file.writeFile(packTables(tables))
        await file.sync()
      } finally {
        await file.close()
      }
      // In one step: a reader finds the old file or the new one, whole.
      await rename(temporary, path)
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => undefined)
      const { code, errno, message, syscall } = error as NodeJS.ErrnoException
      const details = { path, cause: error, ...(syscall === undefined ? {} : { call: syscall }), ...(errno === undefined ? {} : { errno: Math.abs(errno) }), ...(code === undefined ? {} : { errnoName: code }) }
      throw new BackdoorsError('SYSTEM_CALL_FAILED', `Symbols of a kernel cannot be kept in ${path}: ${message}`, details)
    }
  }

  /** A build id comes from another machine's memory: it must not lead out of the folder. */
  #fileOf(buildId: string): string {
    if (!/^[0-9a-f]{16,64}$/.test(buildId)) throw new BackdoorsError('INVALID_ARGUMENT', 'A build id is 16 to 64 hexadecimal digits.', { field: 'buildId' })
    return join(this.path, `${buildId}.tables`)
  }
}

/** A file that nobody but this user, or root, may have written. */
async function readOwn(path: string): Promise<Uint8Array | undefined> {
  try {
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    try {
      const { uid, size, mode } = await file.stat()
      const isOwn = (uid === process.getuid?.() || uid === 0) && (mode & 0o022) === 0 && (mode & constants.S_IFMT) === constants.S_IFREG
      return isOwn && size <= mostBytes ? await file.readFile() : undefined
    } finally {
      await file.close()
    }
  } catch {
    return undefined
  }
}
