/** A tier that is one process: started with one argument, and ready when it says so. */
import { fileURLToPath } from 'node:url'
import { Child, type ChildEvent } from '../../src/cli/demo/child.js'

export const scriptOf = (tier: string): string => fileURLToPath(new URL(`./${tier}/main.js`, import.meta.url))

export class Tier {
  readonly #child: Child
  readonly #events: ChildEvent[] = []
  readonly #waiting = new Set<() => void>()
  /** Rejects when the process ends before it was told to. */
  readonly troubled: Promise<never>
  #isEnding = false

  /** @param name the folder of its `main` */
  constructor(name: string, argument: object, onEvent: (event: ChildEvent) => void = () => undefined) {
    this.#child = new Child(name, scriptOf(name), [JSON.stringify(argument)], (event) => {
      this.#events.push(event)
      onEvent(event)
      for (const look of this.#waiting) look()
    })
    this.troubled = this.#child.exited.then((code) => {
      // Its end is no trouble where it was asked for; then nobody waits for this either.
      if (this.#isEnding && code === 0) return new Promise<never>(() => undefined)
      throw this.#child.failure(code)
    })
    this.troubled.catch(() => undefined)
  }

  /** Its first event of this name. @throws BackdoorsError DAEMON_UNAVAILABLE where it ends without */
  async event(name: string): Promise<ChildEvent> {
    const found = new Promise<ChildEvent>((resolve) => {
      const look = (): void => {
        const event = this.#events.find((each) => each.event === name)
        if (event === undefined) return
        this.#waiting.delete(look)
        resolve(event)
      }
      this.#waiting.add(look)
      look()
    })
    return await Promise.race([found, this.troubled])
  }

  tell(line: string): void {
    this.#isEnding ||= line === 'stop'
    this.#child.tell(line)
  }

  /** Lets it end by itself. Idempotent. */
  async close(): Promise<void> {
    this.#isEnding = true
    this.#child.endInput()
    await this.#child.exited
  }

  /** Ends it whatever it does. Idempotent. */
  async end(): Promise<void> {
    this.closeNow()
    await this.#child.exited
  }

  /** The same without waiting, for a process that is about to end. */
  closeNow(): void {
    this.#isEnding = true
    this.#child.signal('SIGTERM')
  }
}
