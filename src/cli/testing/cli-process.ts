/** The command line as a process, and the JSON lines that it prints. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

export interface EventLine {
  readonly event: string
  readonly [field: string]: unknown
}

export class CliProcess {
  readonly child: ChildProcess
  readonly events: EventLine[] = []
  stderr = ''
  readonly #ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
  #onEvent: () => void = () => undefined

  constructor(main: string, args: readonly string[], env: Record<string, string> = {}) {
    this.child = spawn(process.execPath, [main, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } })
    this.child.stderr?.on('data', (chunk: Buffer) => (this.stderr += chunk.toString('utf8')))
    if (this.child.stdout) {
      createInterface({ input: this.child.stdout }).on('line', (line) => {
        this.events.push(JSON.parse(line) as EventLine)
        this.#onEvent()
      })
    }
    this.#ended = once(this.child, 'close').then(([code, signal]) => {
      this.#onEvent()
      return { code: code as number | null, signal: signal as NodeJS.Signals | null }
    })
  }

  /** Resolves with the first event of this kind; rejects where the process ends without one. */
  async event(kind: string): Promise<EventLine> {
    for (;;) {
      const found = this.events.find(({ event }) => event === kind)
      if (found) return found
      if (this.child.exitCode !== null || this.child.signalCode !== null) throw new Error(`the process ended without an event "${kind}": ${JSON.stringify(this.events)}\n${this.stderr}`)
      await new Promise<void>((resolve) => {
        this.#onEvent = resolve
      })
    }
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal)
  }

  /** Resolves when the process and its pipes have ended. */
  ended(): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    return this.#ended
  }

  /** Ends it whatever it does. */
  async destroy(): Promise<void> {
    this.child.kill('SIGKILL')
    await this.#ended
  }
}
