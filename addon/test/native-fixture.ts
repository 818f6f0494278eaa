/** What the tests of the target *memory* share. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleepMs } from 'node:timers/promises'
import { afterEach, expect } from 'vitest'
import { BackdoorsError, type ErrorCode, type ErrorDetails } from '../../src/errors.js'
import { memoryAddon } from '../../src/native/load.js'
import type { SharedMemory, SharedMemoryOptions } from '../../src/native/memory.js'

/** Far longer than anything takes, also under a sanitizer: only what never comes fails. */
export const patienceMs = 60_000

const cleanups: (() => void)[] = []
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup()
})

/** Closed after the test. */
export function closing<T extends { close(): void }>(resource: T): T {
  cleanups.push(() => resource.close())
  return resource
}

export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'backdoors-native-'))
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

export function createMemory(options: Partial<SharedMemoryOptions> = {}): SharedMemory {
  const path = options.path ?? join(temporaryFolder(), 'region')
  return closing(new (memoryAddon().SharedMemory)({ path, create: true, length: 65_536, ...options }))
}

/** Waits for what will come; fails the test where it never does. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  const untilMs = performance.now() + patienceMs
  while (!condition()) {
    if (performance.now() > untilMs) throw new Error(`waited ${String(patienceMs)} ms in vain: ${what}`)
    await sleepMs(1)
  }
}

/** Expects the call to throw one of our errors with this code, and these details. */
export function expectCode(call: () => unknown, code: ErrorCode, details: ErrorDetails = {}): BackdoorsError {
  let thrown: unknown
  try {
    call()
  } catch (error) {
    thrown = error
  }
  expect(thrown).toBeInstanceOf(BackdoorsError)
  const error = thrown as BackdoorsError
  expect({ code: error.code, ...error.details }).toMatchObject({ code, ...details })
  return error
}

/** How many of the addon's threads of this name run in this process. */
export function countThreads(name: string): number {
  return readdirSync('/proc/self/task').filter((task) => {
    try {
      return readFileSync(`/proc/self/task/${task}/comm`, 'utf8').trim() === name
    } catch {
      return false
    }
  }).length
}

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stderr: string
}

/** A child process that runs one of the scripts in `children/`. Killed after the test, should it still run. */
export class Child {
  readonly process: ChildProcess
  readonly ended: Promise<Ended>
  readonly #lines: AsyncIterator<string>

  constructor(script: string, args: readonly string[], nodeOptions: readonly string[] = []) {
    const path = join(import.meta.dirname, 'children', script)
    const child = spawn(process.execPath, [...nodeOptions, path, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
    this.process = child
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    let stderr = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
    this.ended = new Promise((resolve) => child.once('close', (code, signal) => resolve({ code, signal, stderr })))
    cleanups.push(() => child.kill('SIGKILL'))
  }

  /** Its next line of output; empty where it ends without one. */
  async line(): Promise<string> {
    const next = await this.#lines.next()
    return next.done === true ? '' : next.value
  }
}
