/** What the daemon measures of one server process: a process that hangs cannot say that work waits for it, but the kernel can. */
import type { SensorsConfig } from '../detector-config.js'
import type { Measure } from './measure.js'
import type { ProcFiles } from './proc-files.js'
import { acceptQueues, cgroupPath, kibibytesLine, openFilesLimit, singleNumber, socketInode } from './proc-texts.js'

type Limits = SensorsConfig['limits']

/** Names of all that may be measured, in the order in which they take a place. */
export const serverMeasures = ['rss-bytes', 'open-fds', 'accept-queue'] as const

export class ServerMeter {
  readonly #files: ProcFiles
  readonly #pid: number
  readonly #limits: Limits
  /** Inodes of the sockets that listen in the server's network namespace, when its own were last looked for; and which are its own. */
  #listening = ''
  #own: ReadonlySet<number> = new Set()

  /** @param pid as the server's directory entry has it: in another PID namespace it is nobody's, or somebody else's */
  constructor(files: ProcFiles, pid: number, limits: Limits) {
    this.#files = files
    this.#pid = pid
    this.#limits = limits
  }

  async measure(): Promise<Measure[]> {
    return [...(await this.#memory()), ...(await this.#descriptors()), ...(await this.#acceptQueue())]
  }

  async #memory(): Promise<Measure[]> {
    const value = kibibytesLine((await this.#text('status')) ?? '', 'VmRSS')
    if (value === undefined) return []
    const total = kibibytesLine((await this.#files.text('meminfo')) ?? '', 'MemTotal')
    const group = cgroupPath((await this.#text('cgroup')) ?? '')
    const most = group === undefined ? undefined : singleNumber((await this.#files.cgroupText(group, 'memory.max')) ?? '')
    const room = Math.min(total ?? Infinity, most ?? Infinity)
    return [{ name: 'rss-bytes', kind: 'level', value, limit: Number.isFinite(room) ? room * this.#limits.serverMemory : 0 }]
  }

  async #descriptors(): Promise<Measure[]> {
    const value = await this.#files.descriptorCount(this.#pid)
    if (value === undefined) return []
    const most = openFilesLimit((await this.#text('limits')) ?? '')
    return [{ name: 'open-fds', kind: 'level', value, limit: most === undefined ? 0 : most * this.#limits.serverFiles }]
  }

  /** The longest of its queues: one socket that nobody accepts from is as bad as several. */
  async #acceptQueue(): Promise<Measure[]> {
    const texts = [await this.#text('net/tcp'), await this.#text('net/tcp6')]
    const queues = new Map(texts.flatMap((text) => [...acceptQueues(text ?? '')]))
    const listening = [...queues.keys()].join()
    if (listening !== this.#listening) {
      const links = await this.#files.descriptorLinks(this.#pid)
      this.#own = new Set(links.flatMap((link) => socketInode(link) ?? []))
      this.#listening = listening
    }
    const own = [...queues].flatMap(([inode, waiting]) => (this.#own.has(inode) ? [waiting] : []))
    return own.length === 0 ? [] : [{ name: 'accept-queue', kind: 'pressure', value: Math.max(...own), limit: this.#limits.acceptQueue }]
  }

  #text(file: string): Promise<string | undefined> {
    return this.#files.text(`${this.#pid}/${file}`)
  }
}
