/** The example as its users run it: real processes over a real PostgreSQL, which fail. */
import { readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { CliProcess } from '../../src/cli/testing/cli-process.js'
import type { Judgement } from './judgement.js'

/** Made by `npm run prepare`, which `npm run test:auction` begins with. */
const main = fileURLToPath(new URL('../../dist/examples/auction/main.js', import.meta.url))
let running: CliProcess | undefined

afterEach(async () => {
  running?.signal('SIGTERM')
  await running?.ended()
})

const leftFolders = (): string[] => [...readdirSync('/dev/shm').filter((name) => name.startsWith('backdoors-demo-')), ...readdirSync(tmpdir()).filter((name) => name.startsWith('auction-postgres-'))]

async function auction(...args: string[]): Promise<{ code: number | null; judgement: Judgement; stderr: string }> {
  const process = new CliProcess(main, ['--json', '--users', '8', '--seconds', '8', ...args])
  running = process
  const { code } = await process.ended()
  return { code, judgement: process.events.at(-1) as unknown as Judgement, stderr: process.stderr }
}

describe('an auction', () => {
  it('goes on when two of its three nodes are killed: every story stays true', async () => {
    const before = leftFolders()
    const { code, judgement, stderr } = await auction('--failure', 'kill', '--seed', '11')
    expect(judgement, stderr).toMatchObject({ ok: true, faults: [], seed: 11, users: { users: 8, trueStories: 8, lost: 0, twice: 0, invented: 0, broken: 0 } })
    expect(judgement.failures.map(({ instant }) => instant)).toEqual(['random', 'between-commits'])
    expect(judgement.interrupted.wereInDatabase).toBeGreaterThan(0)
    expect(code).toBe(0)
    expect(leftFolders().filter((name) => !before.includes(name))).toEqual([])
  })

  it('goes on when nodes freeze and wake again, for users who ask the nodes themselves', async () => {
    const { code, judgement, stderr } = await auction('--failure', 'stop', '--seed', '12', '--direct')
    expect(judgement, stderr).toMatchObject({ ok: true, faults: [], askedAgain: 0, users: { trueStories: 8 } })
    expect(judgement.users.sentAgain).toBeGreaterThan(0)
    expect(code).toBe(0)
  })

  it('whose steps are done again although they have been done is found out', async () => {
    const { code, judgement } = await auction('--seed', '13', '--canary')
    expect(judgement.ok).toBe(false)
    expect(judgement.users.twice + judgement.users.invented).toBeGreaterThan(0)
    expect(code).toBe(1)
  })
})

it('leaves nothing behind when it is interrupted', async () => {
  const before = leftFolders()
  const process = new CliProcess(main, ['--json', '--users', '4'])
  running = process
  await vi.waitFor(() => expect(process.stderr).toContain('is open at http://127.0.0.1:'), { timeout: 120_000, interval: 20 })
  expect(leftFolders().filter((name) => !before.includes(name))).toHaveLength(2)
  process.signal('SIGINT')
  expect(await process.ended()).toMatchObject({ code: 1, signal: null })
  expect(leftFolders().filter((name) => !before.includes(name))).toEqual([])
})
