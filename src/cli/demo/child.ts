import { spawn, type ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { BackdoorsError } from '../../errors.js'

/** One line of a child's stdout: what happened, and when, by CLOCK_MONOTONIC in milliseconds. */
export interface ChildEvent {
  readonly event: string
  readonly atMs: number
  readonly [field: string]: unknown
}

const keptErrorBytes = 2000

/** A node process of the demo: says what happens to it as JSON lines, and is ended by its process id, nobody else's. */
export class Child {
  readonly name: string
  /** Resolves with its exit code, or null where a signal ended it. */
  readonly exited: Promise<number | null>
  readonly #process: ChildProcess
  #errors = ''
  #gone = false

  constructor(name: string, script: string, args: readonly string[], onEvent: (event: ChildEvent) => void) {
    this.name = name
    this.#process = spawn(process.execPath, [script, ...args], { stdio: ['pipe', 'pipe', 'pipe'] })
    const { stdin, stdout, stderr } = this.#process
    stdin?.on('error', () => undefined)
    stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#errors = (this.#errors + text).slice(-keptErrorBytes)
    })
    if (stdout) createInterface({ input: stdout }).on('line', (line) => onEvent(JSON.parse(line) as ChildEvent))
    this.exited = new Promise((resolve) => {
      // Not `exit`: what it said last is to be heard first.
      this.#process.once('close', (code) => resolve(this.#leave(code)))
      this.#process.once('error', (error) => {
        this.#errors += error.message
        resolve(this.#leave(1))
      })
    })
  }

  get pid(): number | undefined {
    return this.#process.pid
  }

  get gone(): boolean {
    return this.#gone
  }

  signal(signal: NodeJS.Signals): void {
    if (!this.#gone) this.#process.kill(signal)
  }

  /** One line for its standard input. */
  tell(line: string): void {
    this.#process.stdin?.write(`${line}\n`)
  }

  /** Nothing more will come on its standard input: who ends with it, ends. */
  endInput(): void {
    this.#process.stdin?.end()
  }

  /** Its end where it should still run, as an error with what it wrote to stderr. */
  failure(code: number | null): BackdoorsError {
    return new BackdoorsError('DAEMON_UNAVAILABLE', `The ${this.name} of the demo ended (${code === null ? 'by a signal' : `exit code ${code}`}): ${this.#errors.trim() || 'it said nothing'}`)
  }

  #leave(code: number | null): number | null {
    this.#gone = true
    return code
  }
}
