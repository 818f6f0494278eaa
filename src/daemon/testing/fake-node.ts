/** A node whose daemon and server are played by the test: it lives and dies at a word. */
import { BoxOwner, markExited } from '../../region/box-owner.js'
import { createRegion, type Region } from '../../region/region.js'
import type { SensorHandle } from '../../region/sensor-handle.js'
import { daemonBoxName, osSensorName } from '../own-region.js'

export const testGeometry = { boxCount: 4, sensorsPerBox: 4, sessionsPerBox: 256, heapBytes: 1 << 20 }
/** Long enough for a loaded machine's timers, so that only a stopped beat is a stall. In milliseconds. */
export const testDeadlineMs = 300

export class FakeNode {
  readonly region: Region
  readonly daemonBox: BoxOwner
  readonly server: BoxOwner
  readonly #os: SensorHandle
  readonly #loop: SensorHandle
  readonly #timers: NodeJS.Timeout[] = []

  constructor(name: string, path: string, cluster = 'test') {
    this.region = createRegion(path, name, cluster, testGeometry)
    this.daemonBox = BoxOwner.take(this.region, { name: daemonBoxName, daemon: true })
    this.server = BoxOwner.take(this.region, { name: 'web' })
    const deadlineUs = testDeadlineMs * 1000
    this.#os = this.daemonBox.sensor({ name: osSensorName, kind: 'progress', deadlineUs })
    this.#loop = this.server.sensor({ name: 'event-loop', kind: 'progress', deadlineUs })
    this.beatOs()
    this.beatServer()
  }

  beatOs(): void {
    this.#timers.push(setInterval(() => this.#os.beat(), 5))
  }

  beatServer(): void {
    this.#timers.push(setInterval(() => this.#loop.beat(), 5))
  }

  /** Nothing of the machine runs any more; its memory stays. */
  stop(): void {
    for (const timer of this.#timers.splice(0)) clearInterval(timer)
  }

  /** The server's process is gone, and the daemon has seen it. */
  exitServer(): void {
    markExited(this.region, this.server.box, this.server.generation)
  }

  commit(id: string, text: string): void {
    const store = this.server.sessions.store('carts')
    this.server.sessions.commit(store, id, new TextEncoder().encode(text), { ttlMs: 0, schemaVersion: 1 })
  }

  close(): void {
    this.stop()
    this.region.memory.close()
  }
}
