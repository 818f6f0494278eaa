/**
 * Reads /proc, a bounded piece at a time. What cannot be read (no such process, no right to) is undefined, never an error.
 * Mostly synchronously: these files are made up when they are read, in microseconds, and a way through the thread pool costs ten times that.
 */
import { open } from 'node:fs/promises'
import { closeSync, openSync, opendirSync, readlinkSync, readSync, statSync } from 'node:fs'
import { join } from 'node:path'

/** Longest beginning of a file that is read, in bytes. Longer ones are lists, of which the beginning is what counts. */
const maxTextBytes = 32 << 10
/** Most descriptors that are looked at: listening sockets are opened early, and have low numbers. */
const maxLinks = 1024

export class ProcFiles {
  readonly #root: string
  readonly #cgroups: string
  /** One for all, so that sampling leaves no garbage but texts. */
  readonly #buffer = Buffer.alloc(maxTextBytes)

  /** @param root, cgroups other folders, for tests */
  constructor(root = '/proc', cgroups = '/sys/fs/cgroup') {
    this.#root = root
    this.#cgroups = cgroups
  }

  text(path: string): string | undefined {
    return this.#read(join(this.#root, path))
  }

  /** A file of the cgroup at `path`. */
  cgroupText(path: string, file: string): string | undefined {
    return this.#read(join(this.#cgroups, path, file))
  }

  /** For files that the kernel takes long to make up: the event loop does not wait for it. */
  async slowText(path: string): Promise<string | undefined> {
    const file = await open(join(this.#root, path), 'r').catch(() => undefined)
    if (file === undefined) return undefined
    try {
      const buffer = Buffer.allocUnsafe(maxTextBytes)
      let length = 0
      for (let read = -1; read !== 0 && length < maxTextBytes; length += read) ({ bytesRead: read } = await file.read(buffer, length, maxTextBytes - length))
      return buffer.toString('utf8', 0, length)
    } catch {
      return undefined
    } finally {
      await file.close()
    }
  }

  /** Where a link leads to. */
  link(path: string): string | undefined {
    return attempt(() => readlinkSync(join(this.#root, path)))
  }

  /** How many descriptors a process has open. */
  descriptorCount(pid: number): number | undefined {
    const folder = join(this.#root, String(pid), 'fd')
    // Since Linux 6.2 the folder's size is the number, and nothing has to be listed.
    return attempt(() => statSync(folder).size || countIn(folder))
  }

  /** What a process's descriptors are of; the first thousand. */
  descriptorLinks(pid: number): string[] {
    const folder = join(this.#root, String(pid), 'fd')
    const names = attempt(() => namesIn(folder, maxLinks)) ?? []
    // A descriptor may have been closed meanwhile.
    return names.flatMap((name) => attempt(() => readlinkSync(join(folder, name))) ?? [])
  }

  #read(path: string): string | undefined {
    return attempt(() => {
      const file = openSync(path, 'r')
      try {
        let length = 0
        for (let read = -1; read !== 0 && length < maxTextBytes; length += read) read = readSync(file, this.#buffer, length, maxTextBytes - length, null)
        return this.#buffer.toString('utf8', 0, length)
      } finally {
        closeSync(file)
      }
    })
  }
}

function attempt<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}

function namesIn(folder: string, most: number): string[] {
  const names: string[] = []
  const entries = opendirSync(folder)
  try {
    for (let entry = entries.readSync(); entry !== null && names.length < most; entry = entries.readSync()) names.push(entry.name)
  } finally {
    entries.closeSync()
  }
  return names
}

const countIn = (folder: string): number => namesIn(folder, Infinity).length
