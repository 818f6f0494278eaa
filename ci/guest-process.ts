/** A process in a guest, seen from the rig. */

import { EventEmitter } from 'node:events'
import { createInterface } from 'node:readline'
import { PassThrough, type Writable } from 'node:stream'
import type { AgentEvent, AgentRequest } from './agent-protocol.js'
import { deferred } from './deferred.js'
import { GuestCommandError } from './errors.js'

export type OutputStream = 'stdout' | 'stderr'

export interface CommandResult {
  /** Exit code, or null when a signal ended it. */
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

interface ProcessEvents {
  /** A whole line of output, without its end. */
  line: [text: string, stream: OutputStream]
  /** Bytes as they come. */
  output: [bytes: Buffer, stream: OutputStream]
}

export class GuestProcess extends EventEmitter<ProcessEvents> {
  /** Settles when the process has ended, though a child of it may still hold its output open. */
  readonly exited: Promise<Pick<CommandResult, 'code' | 'signal'>>
  /** Settles with all its output once that can grow no more. Rejects when the guest goes away before. */
  readonly closed: Promise<CommandResult>
  /** In the guest; 0 until {@link started} has settled. */
  pid = 0
  readonly started: Promise<void>

  private readonly chunks = { stdout: [] as Buffer[], stderr: [] as Buffer[] }
  private readonly lines: string[] = []
  private readonly splitters = { stdout: new PassThrough(), stderr: new PassThrough() }
  private readonly startedSettled = deferred<void>()
  private readonly exitedSettled = deferred<Pick<CommandResult, 'code' | 'signal'>>()
  private readonly closedSettled = deferred<CommandResult>()

  constructor(
    readonly command: string,
    private readonly id: number,
    private readonly request: (request: AgentRequest) => void,
    private readonly transcript: Writable,
  ) {
    super()
    this.started = this.startedSettled.promise
    this.exited = this.exitedSettled.promise
    this.closed = this.closedSettled.promise
    // Nobody has to wait for a process; a guest that is shut down must not end the rig by an unhandled rejection.
    for (const promise of [this.started, this.exited, this.closed]) promise.catch(() => undefined)
    for (const stream of ['stdout', 'stderr'] as const) {
      createInterface({ input: this.splitters[stream], crlfDelay: Infinity }).on('line', (text) => {
        this.lines.push(text)
        this.emit('line', text, stream)
      })
    }
    transcript.write(`$ ${command}\n`)
  }

  /** What has come so far. */
  output(stream: OutputStream): Buffer {
    return Buffer.concat(this.chunks[stream])
  }

  kill(signal: NodeJS.Signals = 'SIGTERM', options: { readonly group?: boolean } = {}): void {
    this.request({ op: 'kill', id: this.id, signal, group: options.group ?? false })
  }

  /** Writes to its standard input. */
  write(bytes: Uint8Array | string): void {
    const sliceBytes = 48 << 10
    const all = Buffer.from(bytes as Uint8Array)
    for (let start = 0; start < all.length; start += sliceBytes) {
      const data = all.toString('base64', start, Math.min(all.length, start + sliceBytes))
      this.request({ op: 'stdin', id: this.id, data })
    }
  }

  endInput(): void {
    this.request({ op: 'stdin-end', id: this.id })
  }

  /**
   * The first line of output, old or new, that matches `pattern`.
   * @throws GuestCommandError when the process ends, or `timeoutMs` pass, without one.
   */
  async waitForLine(pattern: RegExp, timeoutMs = 30_000): Promise<RegExpExecArray> {
    const found = deferred<RegExpExecArray>()
    const look = (text: string): void => {
      const match = pattern.exec(text)
      if (match !== null) found.resolve(match)
    }
    const giveUp = (why: string): void => {
      found.reject(this.failure(`${why} before a line matched ${pattern}`))
    }
    const timer = setTimeout(giveUp, timeoutMs, `${timeoutMs} ms passed`)
    this.on('line', look)
    this.lines.forEach(look)
    this.closed.then(
      () => setImmediate(giveUp, 'it ended'), // after the last line has been looked at
      (error: unknown) => {
        found.reject(error as Error)
      },
    )
    try {
      return await found.promise
    } finally {
      clearTimeout(timer)
      this.off('line', look)
    }
  }

  /** {@link closed}, but after `timeoutMs` the process and all it started are killed and this throws. */
  result(timeoutMs: number): Promise<CommandResult> {
    return this.within(timeoutMs, this.closed)
  }

  /** `milestone`, or after `timeoutMs` an error, and the end of the process and all it started. */
  async within<T>(timeoutMs: number, milestone: Promise<T>): Promise<T> {
    const timeout = deferred<never>()
    const timer = setTimeout(() => {
      this.kill('SIGKILL', { group: true })
      timeout.reject(this.failure(`not done after ${timeoutMs} ms`))
    }, timeoutMs)
    try {
      return await Promise.race([milestone, timeout.promise])
    } finally {
      clearTimeout(timer)
    }
  }

  /** An error about this process, with the end of its output in it. */
  failure(what: string): GuestCommandError {
    const tail = `${this.output('stdout').toString()}${this.output('stderr').toString()}`.trimEnd().split('\n').slice(-40)
    return new GuestCommandError(`${this.command}: ${what}; the end of its output:\n${tail.join('\n')}`)
  }

  /** For the connection to the agent only. */
  receive(event: Exclude<AgentEvent, { event: 'ready' }>): void {
    switch (event.event) {
      case 'started':
        this.pid = event.pid
        this.startedSettled.resolve()
        break
      case 'failed':
        this.abandon(new GuestCommandError(`${this.command}: ${event.message}`))
        break
      case 'output':
        this.take(Buffer.from(event.data, 'base64'), event.stream)
        break
      case 'exit':
        this.transcript.write(`[exit ${event.code ?? event.signal}]\n`)
        this.exitedSettled.resolve({ code: event.code, signal: event.signal })
        break
      case 'closed':
        this.finish()
        break
    }
  }

  /** For the connection to the agent only: no more will be heard of this process. */
  abandon(error: Error): void {
    for (const settled of [this.startedSettled, this.exitedSettled, this.closedSettled]) settled.reject(error)
    this.endOutput()
  }

  private take(bytes: Buffer, stream: OutputStream): void {
    this.chunks[stream].push(bytes)
    this.transcript.write(bytes)
    this.splitters[stream].write(bytes)
    this.emit('output', bytes, stream)
  }

  private finish(): void {
    this.endOutput()
    void this.exited.then(({ code, signal }) => {
      const [stdout, stderr] = [this.output('stdout').toString(), this.output('stderr').toString()]
      this.closedSettled.resolve({ code, signal, stdout, stderr })
    })
  }

  private endOutput(): void {
    this.splitters.stdout.end()
    this.splitters.stderr.end()
    this.transcript.end()
  }
}
