/** The demo as its users run it: real processes, which fail. */
import { readdirSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { CliProcess } from '../testing/cli-process.js'
import { compileProgram, type CompiledProgram } from '../testing/compile.js'
import type { Judgement } from './summary.js'

// The demo ends by itself within a minute, however loaded the machine is.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

let program: CompiledProgram
let running: CliProcess | undefined

beforeAll(() => {
  program = compileProgram()
})

afterEach(async () => {
  running?.signal('SIGTERM')
  await running?.ended()
})

afterAll(() => program.remove())

const leftFolders = (): string[] => readdirSync('/dev/shm').filter((name) => name.startsWith('backdoors-demo-'))

async function demo(...args: string[]): Promise<{ code: number | null; judgement: Judgement; stderr: string }> {
  const process = new CliProcess(program.main, ['demo', '--json', '--sessions', '60', '--seed', '11', ...args])
  running = process
  const { code } = await process.ended()
  return { code, judgement: process.events.at(-1) as unknown as Judgement, stderr: process.stderr }
}

describe('a node', () => {
  it('that is killed is recovered: nothing is lost, served twice or invented', async () => {
    const before = leftFolders()
    const { code, judgement, stderr } = await demo('--failure', 'kill')
    expect(judgement).toMatchObject({ ok: true, faults: [], failure: 'kill', nodes: 3, seed: 11, sessions: 60, lost: 0, servedTwice: 0, invented: 0 })
    expect(judgement.recovered).toBe(judgement.failedSessions)
    expect(judgement.halfWritten.discarded).toBe(judgement.halfWritten.planted)
    expect(judgement.recoverMs).toBeGreaterThan(judgement.detectMs as number)
    expect(code).toBe(0)
    expect(stderr).toContain(`kills node ${judgement.failedNode}`)
    expect(stderr).not.toContain('\u001b[')
    expect(leftFolders().filter((name) => !before.includes(name))).toEqual([])
  })

  it('that is frozen and woken again finds itself fenced, and acknowledges nothing', async () => {
    const { code, judgement } = await demo('--failure', 'stop')
    expect(judgement).toMatchObject({ ok: true, faults: [], lost: 0, servedTwice: 0, invented: 0, woken: { acknowledged: 0 } })
    expect(judgement.woken?.refused).toBeGreaterThan(0)
    expect(code).toBe(0)
  })
})

describe('a safeguard that is switched off is missed', () => {
  it.each([['fence', 'servedTwice'], ['crc', 'invented'], ['claim', 'servedTwice']] as const)('%s: sessions are %s', async (canary, violation) => {
    const { code, judgement } = await demo('--canary', canary)
    expect(judgement).toMatchObject({ ok: false, canary })
    expect(judgement[violation]).toBeGreaterThan(0)
    expect(code).toBe(1)
  })
})

it('leaves nothing behind when it is interrupted', async () => {
  const before = leftFolders()
  const process = new CliProcess(program.main, ['demo', '--json', '--sessions', '60'])
  running = process
  await vi.waitFor(() => expect(leftFolders().some((name) => !before.includes(name))).toBe(true), { timeout: 60_000, interval: 20 })
  process.signal('SIGINT')
  expect(await process.ended()).toMatchObject({ code: 1, signal: null })
  expect(leftFolders().filter((name) => !before.includes(name))).toEqual([])
})
