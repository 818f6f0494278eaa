/** Starts the processes of `bench-child.ts`, and ends them, each by its own id. */
import { spawn, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { BackdoorsError } from '../../errors.js'
import { memoryAddon } from '../../native/load.js'

const script = fileURLToPath(new URL('./bench-child.js', import.meta.url))

export class BenchChild {
  readonly #process: ChildProcess
  readonly #ended: Promise<void>

  private constructor(child: ChildProcess) {
    this.#process = child
    this.#ended = new Promise((resolve) => child.once('close', () => resolve()))
  }

  /**
   * Resolves when the child does its part, with what it said of it.
   * @throws BackdoorsError PEER_UNREACHABLE where it ends first
   */
  static async start(part: 'host' | 'server' | 'http' | 'spin' | 'sweep', ...args: readonly (string | number)[]): Promise<{ child: BenchChild; said: string }> {
    const spawned = spawn(process.execPath, [script, part, ...args.map(String)], { stdio: ['pipe', 'pipe', 'pipe'] })
    spawned.stdin.on('error', () => undefined)
    let errors = ''
    spawned.stderr.setEncoding('utf8').on('data', (text: string) => void (errors += text))
    const child = new BenchChild(spawned)
    const said = await new Promise<string>((resolve, reject) => {
      let text = ''
      spawned.stdout.setEncoding('utf8').on('data', (more: string) => {
        text += more
        const line = /^ready (.*)\n/.exec(text)
        if (line) resolve(line[1] as string)
      })
      spawned.once('error', reject)
      spawned.once('close', (code, signal) => reject(new BackdoorsError('PEER_UNREACHABLE', `the process "${part}" of the benchmark ended with ${code ?? signal ?? 'nothing'}: ${errors.trim()}`)))
    })
    return { child, said }
  }

  /** By SIGKILL. @returns when it was called and when that returned, in microseconds of CLOCK_MONOTONIC */
  kill(): { calledUs: number; returnedUs: number } {
    const addon = memoryAddon()
    const calledUs = addon.monotonicUs()
    this.#process.kill('SIGKILL')
    return { calledUs, returnedUs: addon.monotonicUs() }
  }

  async end(): Promise<void> {
    this.#process.kill('SIGKILL')
    await this.#ended
  }
}
