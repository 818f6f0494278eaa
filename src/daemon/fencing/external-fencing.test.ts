/** What external fencing does to a recovery: required or not, and what is written down of it. */
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { RecoveryReport } from '../../recovery/recover.js'
import type { DaemonConfigInput } from '../config.js'
import { startDaemon, type Daemon } from '../daemon.js'
import { FakeNode, testDeadlineMs, testGeometry } from '../testing/fake-node.js'
import { makeAgent } from '../testing/made-agent.js'

let folder: string
let lines: Record<string, unknown>[]
const closers: (() => Promise<void> | void)[] = []
const pathOf = (node: string): string => join(folder, node)
const secret = 'correct horse battery staple'

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'backdoors-fencing-'))
  lines = []
})

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
  rmSync(folder, { recursive: true, force: true })
})

async function watcher(fence: NonNullable<DaemonConfigInput['recovery']>['fence']): Promise<Daemon> {
  const { boxCount, ...sizes } = testGeometry
  const logger = pino({ level: 'trace' }, { write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>) })
  const daemon = await startDaemon({
    node: 'b', cluster: 'test', region: { path: pathOf('b'), boxes: boxCount, ...sizes },
    peers: [{ name: 'a', region: pathOf('a') }],
    watch: { peers: 3, intervalUs: 500, osDeadlineMs: testDeadlineMs, refreshMs: 20 },
    recovery: { fence },
  }, { logger })
  closers.push(() => daemon.close())
  while ((daemon.status().peers[0]?.servers?.[0]?.sensors.length ?? 0) === 0) await new Promise(setImmediate)
  return daemon
}

function failing(): FakeNode {
  const a = new FakeNode('a', pathOf('a'))
  closers.push(() => a.close())
  a.commit('u1', 'one apple')
  return a
}

describe('a node that stalls', () => {
  it('is fenced by the agent before it is claimed, and that is logged without what the options hold', async () => {
    const a = failing()
    const agent = makeAgent(folder, 'fence_test', 'console.log("Success: Powered OFF", input)')
    const b = await watcher({ agent: agent.path, options: { password: secret }, plugs: { a: '3' } })
    const recovered = once(b, 'recovered')
    a.stop()
    expect(((await recovered) as [RecoveryReport])[0]).toMatchObject({ peer: 'a', outcome: 'announced', adopted: 1 })
    expect(agent.calls().map(({ input }) => input)).toEqual([`password=${secret}\nnodename=a\nplug=3\naction=off\n`])
    const about = lines.filter(({ agent: by }) => by === agent.path)
    expect(about).toMatchObject([
      { peer: 'a', action: 'off', timeoutMs: 30_000, msg: 'fencing the node externally' },
      { peer: 'a', action: 'off', tookMs: expect.any(Number) as number, output: expect.stringContaining('Success: Powered OFF') as string },
    ])
    expect(JSON.stringify(lines)).not.toContain(secret)
  })

  it('is recovered all the same where an agent fails that is not required', async () => {
    const a = failing()
    const agent = makeAgent(folder, 'fence_fails', 'console.error("Unable to connect", input); process.exit(1)')
    const b = await watcher({ agent: agent.path, options: { password: secret }, required: false })
    const failed = once(b, 'failed')
    const recovered = once(b, 'recovered')
    a.stop()
    expect((await failed)[2]).toMatchObject({ code: 'FENCE_FAILED', details: { peer: 'a' } })
    expect(((await recovered) as [RecoveryReport])[0]).toMatchObject({ outcome: 'announced', adopted: 1 })
    expect(JSON.stringify(lines)).toContain('Unable to connect')
    expect(JSON.stringify(lines)).not.toContain(secret)
  })

  it('is not claimed while a required agent fails, and is once it succeeds', async () => {
    const a = failing()
    const agent = makeAgent(folder, 'fence_later', 'if (fs.readFileSync(process.argv[1] + ".calls", "utf8").trim().split("\\n").length === 1) process.exit(1)')
    const b = await watcher({ agent: agent.path })
    const steps: string[] = []
    b.on('step', (_, __, step) => steps.push(step))
    const failed = once(b, 'failed')
    const recovered = once(b, 'recovered')
    a.stop()
    expect((await failed)[2]).toMatchObject({ code: 'FENCE_FAILED' })
    expect(steps).toEqual(['suspected'])
    expect(((await recovered) as [RecoveryReport])[0]).toMatchObject({ outcome: 'announced', adopted: 1 })
    expect(agent.calls()).toHaveLength(2)
  })

  it('is left alone where only one of its servers has gone', async () => {
    const a = failing()
    const agent = makeAgent(folder, 'fence_never')
    const b = await watcher({ agent: agent.path })
    const recovered = once(b, 'recovered')
    a.exitServer()
    expect(((await recovered) as [RecoveryReport])[0]).toMatchObject({ target: { kind: 'box' }, outcome: 'announced', adopted: 1 })
    expect(agent.calls()).toEqual([])
  })
})
