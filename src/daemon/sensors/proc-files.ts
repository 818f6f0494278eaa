/** Reads /proc, a bounded piece at a time. What cannot be read (no such process, no right to) is undefined, never an error. */
import { open, opendir, readlink, stat } from 'node:fs/promises'
import { join } from 'node:path'

/** Longest beginning of a file that is read, in bytes. Longer ones are lists, of which the beginning is what counts. */
const maxTextBytes = 64 << 10
/** Most links that are looked at: listening sockets are opened early, and have low numbers. */
const maxLinks = 1024

export class ProcFiles {
  readonly #root: string
  readonly #cgroups: string
  readonly #buffer = Buffer.alloc(maxTextBytes)

  /** @param root, cgroups other folders, for tests */
  constructor(root = '/proc', cgroups = '/sys/fs/cgroup') {
    this.#root = root
    this.#cgroups = cgroups
  }

  /** One at a time: there is one buffer for all, so that sampling leaves no garbage but texts. */
  async text(path: string): Promise<string | undefined> {
    return await this.#read(join(this.#root, path))
  }

  /** A file of the cgroup at `path`. */
  async cgroupText(path: string, file: string): Promise<string | undefined> {
    return await this.#read(join(this.#cgroups, path, file))
  }

  /** How many descriptors a process has open. */
  async descriptorCount(pid: number): Promise<number | undefined> {
    try {
      const folder = join(this.#root, String(pid), 'fd')
      const { size } = await stat(folder)
      // Since Linux 6.2 the folder's size is the number, and nothing has to be listed.
      if (size > 0) return size
      let count = 0
      for await (const _ of await opendir(folder)) count++
      return count
    } catch {
      return undefined
    }
  }

  /** What a process's descriptors are of; the first thousand. */
  async descriptorLinks(pid: number): Promise<string[]> {
    const links: string[] = []
    try {
      const folder = join(this.#root, String(pid), 'fd')
      for await (const { name } of await opendir(folder)) {
        if (links.length >= maxLinks) break
        // A descriptor may have been closed meanwhile.
        const link = await readlink(join(folder, name)).catch(() => undefined)
        if (link !== undefined) links.push(link)
      }
    } catch {
      // The process is gone, or another user's.
    }
    return links
  }

  async #read(path: string): Promise<string | undefined> {
    try {
      const file = await open(path, 'r')
      try {
        let length = 0
        for (;;) {
          const { bytesRead } = await file.read(this.#buffer, length, maxTextBytes - length)
          length += bytesRead
          if (bytesRead === 0 || length === maxTextBytes) return this.#buffer.toString('utf8', 0, length)
        }
      } finally {
        await file.close()
      }
    } catch {
      return undefined
    }
  }
}
