/** C programs of tests: compiled when they are needed, and kept by what they are made of. */
import { type ChildProcessByStdio, execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'

const root = join(import.meta.dirname, '..', '..', '..')
export const includeFolder = join(root, 'addon', 'include')
export const strictly = ['-Wall', '-Wextra', '-Wpedantic', '-Wconversion', '-Wshadow', '-Werror']
export const sanitized = ['-g', '-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover=all']

/** Text of the header itself, which is part of what a program is made of. */
export const headerText = (): string => readFileSync(join(includeFolder, 'backdoors.h'), 'utf8')

/**
 * Compiles a source that includes `backdoors.h`.
 * @param options of the compiler, the standard and the warnings among them
 * @returns the path of what was made
 */
export function compileC(source: string, options: readonly string[], compiler = 'gcc'): string {
  const digest = createHash('sha256').update([headerText(), source, compiler, ...options].join('\0')).digest('hex').slice(0, 20)
  const folder = join(tmpdir(), `backdoors-c-${process.getuid?.() ?? 0}`)
  const made = join(folder, digest)
  if (existsSync(made)) return made
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const unfinished = `${made}.${process.pid}`
  const file = `${unfinished}.${compiler === 'gcc' ? 'c' : 'cc'}`
  writeFileSync(file, source)
  execFileSync(compiler, [...options, `-I${includeFolder}`, '-o', unfinished, file], { stdio: ['ignore', 'pipe', 'pipe'] })
  renameSync(unfinished, made)
  return made
}

/** The server of `driver.c`: commands go in, lines come out, in order. */
export class Driver {
  readonly process: ChildProcessByStdio<Writable, Readable, Readable>
  readonly lines: string[] = []
  readonly #waiting: ((line: string) => void)[] = []
  #stderr = ''

  constructor(options: readonly string[] = ['-O2']) {
    const source = readFileSync(join(import.meta.dirname, 'driver.c'), 'utf8')
    this.process = spawn(compileC(source, ['-std=c11', ...strictly, ...options]), { stdio: ['pipe', 'pipe', 'pipe'] })
    this.process.stdin.on('error', () => undefined)
    this.process.stderr.setEncoding('utf8').on('data', (text: string) => (this.#stderr += text))
    createInterface({ input: this.process.stdout }).on('line', (line) => {
      this.lines.push(line)
      this.#waiting.shift()?.(line)
    })
    this.process.once('exit', () => {
      for (const resolve of this.#waiting.splice(0)) resolve(`gone: ${this.#stderr}`)
    })
  }

  /** @returns the line that answers it, or `gone: …` */
  ask(command: string): Promise<string> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
      this.process.stdin.write(`${command}\n`)
    })
  }

  /** The next line that comes by itself. */
  next(): Promise<string> {
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  /** @returns the exit code or signal, and what stood on standard error */
  async end(signal?: NodeJS.Signals): Promise<{ status: number | NodeJS.Signals | null; stderr: string }> {
    const { process: child } = this
    if (child.exitCode === null && child.signalCode === null) {
      const gone = new Promise((resolve) => child.once('close', resolve))
      if (signal) child.kill(signal)
      else child.stdin.end()
      await gone
    }
    return { status: child.signalCode ?? child.exitCode, stderr: this.#stderr }
  }
}

export const hex = (bytes: Uint8Array | string): string => Buffer.from(bytes).toString('hex') || '-'
