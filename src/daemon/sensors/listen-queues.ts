/**
 * Connections that wait to be accepted, as the kernel counts them. It walks all of its socket tables for that, whatever is in them,
 * which takes milliseconds: so it is asked once for all servers of a network namespace, off the event loop, and not too often.
 */
import type { ProcFiles } from './proc-files.js'
import { acceptQueues } from './proc-texts.js'

/** What was read stands for so many times as long as it took: at most a five-hundredth of a CPU goes into it. */
const standsForTimes = 500
/** But no longer than this, in milliseconds. */
const standsAtMostMs = 10_000
const maxNamespaces = 64

interface Known {
  readonly queues: ReadonlyMap<number, number>
  readonly untilMs: number
}

export class ListenQueues {
  readonly #files: ProcFiles
  readonly #nowMs: () => number
  readonly #standsForTimes: number
  /** By network namespace. */
  readonly #known = new Map<string, Known>()

  /** @param nowMs a monotonic clock */
  constructor(files: ProcFiles, nowMs: () => number, times = standsForTimes) {
    this.#files = files
    this.#nowMs = nowMs
    this.#standsForTimes = times
  }

  /** Of all sockets that listen in this process's network namespace, by their inodes; none where that cannot be told. */
  async around(pid: number): Promise<ReadonlyMap<number, number>> {
    const namespace = this.#files.link(`${pid}/ns/net`)
    if (namespace === undefined) return new Map()
    const known = this.#known.get(namespace)
    const startMs = this.#nowMs()
    if (known && startMs < known.untilMs) return known.queues
    const texts = [await this.#files.slowText(`${pid}/net/tcp`), await this.#files.slowText(`${pid}/net/tcp6`)]
    const queues = new Map(texts.flatMap((text) => [...acceptQueues(text ?? '')]))
    const endMs = this.#nowMs()
    if (this.#known.size >= maxNamespaces) this.#known.clear()
    this.#known.set(namespace, { queues, untilMs: endMs + Math.min(standsAtMostMs, (endMs - startMs) * this.#standsForTimes) })
    return queues
  }
}
