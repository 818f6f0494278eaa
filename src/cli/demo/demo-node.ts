/** One node of the demo: a daemon and a server, each a process of its own, started again when a peer has fenced them. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { BackdoorsError } from '../../errors.js'
import type { DaemonConfigInput } from '../../daemon/config.js'
import type { Canary } from '../../safeguards.js'
import { exitCodes } from '../exit-codes.js'
import { Child, type ChildEvent } from './child.js'
import { longestDeadlineMs } from './patience.js'
import type { ServerArguments } from './server.js'

export type NodeEvents = (node: string, process: 'daemon' | 'server', event: ChildEvent) => void

/** How a server is started: a script that takes one argument, says `serving` with its port, and ends with its standard input. */
export interface ServerProgram {
  readonly script: string
  /** What its one argument is, as JSON, made of what every server is given. */
  readonly argument: (given: ServerArguments) => object
}

export interface DemoNodeOptions {
  readonly name: string
  readonly folder: string
  readonly config: DaemonConfigInput
  readonly canary: Canary | undefined
  /** Default: the demo's example server. */
  readonly server?: ServerProgram
  readonly onEvent: NodeEvents
}

export const loopback = '127.0.0.1'

const mainScript = fileURLToPath(new URL('../main.js', import.meta.url))
const exampleServer: ServerProgram = { script: fileURLToPath(new URL('./server.js', import.meta.url)), argument: (given) => given }

/** A fenced process of a healthy node is started again after so long, in milliseconds, and so often at most. */
const restartAfterMs = 200
const maxRestarts = 20

export class DemoNode {
  readonly name: string
  readonly region: string
  readonly #options: DemoNodeOptions
  readonly #running = new Set<Child>()
  readonly #trouble: (error: Error) => void
  /** Rejects when a process ends that should run on. */
  readonly troubled: Promise<never>
  #port = 0
  #restarts = 0
  readonly #processes: { daemon?: Child; server?: Child } = {}
  #left = false

  constructor(options: DemoNodeOptions) {
    this.name = options.name
    this.region = join(options.folder, options.name)
    this.#options = options
    let reject: (error: Error) => void = () => undefined
    this.troubled = new Promise<never>((_, rejectPromise) => {
      reject = rejectPromise
    })
    this.troubled.catch(() => undefined)
    this.#trouble = reject
  }

  /** Where its server listens, once it has started; it keeps the port over restarts. */
  get port(): number {
    return this.#port
  }

  async startDaemon(): Promise<void> {
    const file = join(this.#options.folder, `${this.name}.json`)
    writeFileSync(file, JSON.stringify(this.#options.config))
    await this.#start('daemon', mainScript, ['daemon', '--config', file, '--json'], 'listening', () => this.startDaemon())
  }

  /** @param deadlineMs of its sensor; after each time that it was taken for dead, it is given twice as long */
  async startServer(deadlineMs: number): Promise<void> {
    const { canary, server = exampleServer } = this.#options
    const args: ServerArguments = { node: this.name, region: this.region, host: loopback, port: this.#port, deadlineMs, endWithInput: true, ...(canary ? { canary } : {}) }
    await this.#start('server', server.script, [JSON.stringify(server.argument(args))], 'serving', () => this.startServer(Math.min(2 * deadlineMs, longestDeadlineMs)))
  }

  /** Ends or freezes the whole node, as a machine ends or freezes; when it returns, its processes do nothing more. */
  fail(failure: 'kill' | 'stop'): void {
    this.#left = true
    const { daemon, server } = this.#processes
    for (const child of [daemon, server]) child?.signal(failure === 'kill' ? 'SIGKILL' : 'SIGSTOP')
    for (const child of [daemon, server]) if (child?.pid !== undefined) waitUntilStopped(child.pid)
  }

  /** One line for its server's standard input. */
  tellServer(line: string): void {
    this.#processes.server?.tell(line)
  }

  wake(): void {
    for (const child of [this.#processes.daemon, this.#processes.server]) child?.signal('SIGCONT')
  }

  /** Ends its processes. Idempotent. */
  async close(): Promise<void> {
    this.kill()
    await Promise.all([...this.#running].map(({ exited }) => exited))
  }

  kill(): void {
    this.#left = true
    for (const child of this.#running) child.signal('SIGKILL')
  }

  /** Resolves when the process has said that it is ready; looks after it from then on. */
  async #start(kind: 'daemon' | 'server', script: string, args: readonly string[], ready: string, again: () => Promise<void>): Promise<void> {
    if (this.#left) throw this.#closedError()
    let isReady: () => void = () => undefined
    const readiness = new Promise<void>((resolve) => {
      isReady = resolve
    })
    const child = new Child(`${kind} of node ${this.name}`, script, args, (event) => {
      if (event.event === 'serving') this.#port = Number(event['port'])
      if (event.event === ready) isReady()
      this.#options.onEvent(this.name, kind, event)
    })
    this.#running.add(child)
    this.#processes[kind] = child
    const end = child.exited.then((code) => this.#onExit(child, code, again))
    end.catch((error: unknown) => {
      if (!this.#left) this.#trouble(error as Error)
    })
    await Promise.race([readiness, end])
    if (this.#left && child.gone) throw this.#closedError()
  }

  #closedError(): BackdoorsError {
    return new BackdoorsError('CLOSED', `Node ${this.name} of the demo has been ended.`)
  }

  /** A peer may take a node for failed that was only slow: then it is fenced, and starts anew like any fenced node. */
  async #onExit(child: Child, code: number | null, again: () => Promise<void>): Promise<void> {
    this.#running.delete(child)
    if (this.#left) return
    // A server that is started again before its daemon finds no region that it may join yet.
    const isExpected = code === exitCodes.fenced || (code === exitCodes.unavailable && this.#port > 0)
    if (!isExpected || ++this.#restarts > maxRestarts) throw child.failure(code)
    await sleep(restartAfterMs)
    if (!this.#left) await again()
  }
}

/** Waits, without giving others a turn, until a signalled process has stopped or died: at most some milliseconds. */
function waitUntilStopped(pid: number): void {
  const startMs = performance.now()
  const cell = new Int32Array(new SharedArrayBuffer(4))
  for (let waitedMs = 0; waitedMs < 1000; waitedMs = performance.now() - startMs) {
    if ('TtZX'.includes(stateOf(pid))) return
    // Who sleeps on a busy machine is woken late, so at first it does not.
    if (waitedMs > 5) Atomics.wait(cell, 0, 0, 0.1)
  }
  throw new BackdoorsError('SYSTEM_CALL_FAILED', `Process ${pid} of the demo has not stopped within a second after its signal.`)
}

/** The state letter of /proc/PID/stat; X where the process is gone. */
function stateOf(pid: number): string {
  try {
    return /\) (\S)/.exec(readFileSync(`/proc/${pid}/stat`, 'latin1'))?.[1] ?? 'X'
  } catch {
    return 'X'
  }
}
