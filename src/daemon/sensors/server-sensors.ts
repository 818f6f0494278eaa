/** What the daemon measures of one server process: a process that hangs cannot say that work waits for it, but the kernel can. */
import type { SensorsConfig } from '../watching/detector-config.js'
import type { ListenQueues } from './listen-queues.js'
import type { Measure } from './measure.js'
import type { ProcFiles } from './proc-files.js'
import { cgroupPath, kibibytesLine, openFilesLimit, singleNumber, socketInode } from './proc-texts.js'

type Limits = SensorsConfig['limits']

/** Names of all that may be measured, in the order in which they take a place. */
export const serverMeasures = ['rss-bytes', 'open-fds', 'accept-queue'] as const

/** What a server may have changes seldom. */
const measuresPerLook = 10

/** 0 where there is no limit. */
interface Room {
  readonly bytes: number
  readonly descriptors: number
}

export class ServerMeter {
  readonly #files: ProcFiles
  readonly #queues: ListenQueues
  readonly #pid: number
  readonly #limits: Limits
  /** Inodes of the sockets that listen in the server's network namespace, when its own were last looked for; and which are its own. */
  #listening = ''
  #own: ReadonlySet<number> = new Set()
  #room: Room = { bytes: 0, descriptors: 0 }
  #measured = 0

  /** @param pid as the server's directory entry has it: in another PID namespace it is nobody's, or somebody else's */
  constructor(files: ProcFiles, queues: ListenQueues, pid: number, limits: Limits) {
    this.#files = files
    this.#queues = queues
    this.#pid = pid
    this.#limits = limits
  }

  async measure(): Promise<Measure[]> {
    if (this.#measured++ % measuresPerLook === 0) this.#room = this.#lookAtRoom()
    return [...this.#memory(), ...this.#descriptors(), ...(await this.#acceptQueue())]
  }

  #lookAtRoom(): Room {
    const total = kibibytesLine(this.#files.text('meminfo') ?? '', 'MemTotal')
    const group = cgroupPath(this.#text('cgroup') ?? '')
    const most = group === undefined ? undefined : singleNumber(this.#files.cgroupText(group, 'memory.max') ?? '')
    const bytes = Math.min(total ?? Infinity, most ?? Infinity)
    return { bytes: Number.isFinite(bytes) ? bytes : 0, descriptors: openFilesLimit(this.#text('limits') ?? '') ?? 0 }
  }

  #memory(): Measure[] {
    const value = kibibytesLine(this.#text('status') ?? '', 'VmRSS')
    return value === undefined ? [] : [{ name: 'rss-bytes', kind: 'level', value, limit: this.#room.bytes * this.#limits.serverMemory }]
  }

  #descriptors(): Measure[] {
    const value = this.#files.descriptorCount(this.#pid)
    return value === undefined ? [] : [{ name: 'open-fds', kind: 'level', value, limit: this.#room.descriptors * this.#limits.serverFiles }]
  }

  /** The longest of its queues: one socket that nobody accepts from is as bad as several. */
  async #acceptQueue(): Promise<Measure[]> {
    const queues = await this.#queues.around(this.#pid)
    const listening = [...queues.keys()].join()
    if (listening !== this.#listening) {
      this.#own = new Set(this.#files.descriptorLinks(this.#pid).flatMap((link) => socketInode(link) ?? []))
      this.#listening = listening
    }
    const own = [...queues].flatMap(([inode, waiting]) => (this.#own.has(inode) ? [waiting] : []))
    return own.length === 0 ? [] : [{ name: 'accept-queue', kind: 'pressure', value: Math.max(...own), limit: this.#limits.acceptQueue }]
  }

  #text(file: string): string | undefined {
    return this.#files.text(`${this.#pid}/${file}`)
  }
}
