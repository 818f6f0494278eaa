/** A fence agent of Debian's package `fence-agents`, as it is: `fence_dummy`, which switches a word in a file. See vitest.debian.config.ts. */
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { startDaemon } from '../daemon.js'
import { FakeNode, testDeadlineMs, testGeometry } from '../testing/fake-node.js'
import { callAgent, fenceByAgent } from './fence-agent.js'
import { fenceSchema, type AgentFence } from './fence-config.js'

let folder: string
let statusFile: string
const power = (): string => readFileSync(statusFile, 'utf8')

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'backdoors-agents-'))
  statusFile = join(folder, 'power')
  writeFileSync(statusFile, 'on')
})

afterEach(() => rmSync(folder, { recursive: true }))

const fenceOf = (more: object = {}, options: object = {}): AgentFence => fenceSchema.parse({ agent: 'fence_dummy', options: { status_file: statusFile, ...options }, ...more }) as AgentFence

it('switches a node off', async () => {
  expect(await fenceByAgent(fenceOf(), 'a')).toContain('Success: Powered OFF')
  expect(power()).toBe('off')
})

it('switches a node off that is off already', async () => {
  writeFileSync(statusFile, 'off')
  expect(await fenceByAgent(fenceOf(), 'a')).toContain('Success: Already OFF')
})

it('switches a node off and on again, where that is its action', async () => {
  expect(await fenceByAgent(fenceOf({ action: 'reboot' }), 'a')).toContain('Success: Rebooted')
  expect(power()).toBe('on')
})

it('can be asked whether its device answers, and does nothing to anybody then', async () => {
  expect((await callAgent(fenceOf(), 'monitor', 'a')).end.status).toBe(0)
  expect(power()).toBe('on')
})

it('has not fenced a node that does not go off', async () => {
  const fenced = fenceByAgent(fenceOf({}, { type: 'fail', power_timeout: '1' }), 'a')
  await expect(fenced).rejects.toMatchObject({ code: 'FENCE_FAILED', message: expect.stringMatching(/^fence_dummy, action off, node a: exited with 1: [^]*Timed out waiting to power OFF/) as string })
})

it('fences a node that has stalled before its sessions are served elsewhere', async () => {
  const { boxCount, ...sizes } = testGeometry
  const a = new FakeNode('a', join(folder, 'a'))
  a.commit('u1', 'one apple')
  const b = await startDaemon({
    node: 'b', cluster: 'test', log: 'silent', region: { path: join(folder, 'b'), boxes: boxCount, ...sizes },
    peers: [{ name: 'a', region: join(folder, 'a') }], watch: { intervalUs: 500, osDeadlineMs: testDeadlineMs, refreshMs: 20 },
    recovery: { fence: { agent: 'fence_dummy', options: { status_file: statusFile } } },
  })
  while (b.status().peers[0]?.osSensor === undefined) await new Promise(setImmediate)
  const powerAtClaim = new Promise<string>((resolve) => b.on('step', (_, __, step) => step === 'claimed' && resolve(power())))
  const recovered = once(b, 'recovered')
  a.stop()
  expect(await powerAtClaim).toBe('off')
  expect((await recovered)[0]).toMatchObject({ peer: 'a', outcome: 'announced', adopted: 1 })
  await b.close()
  a.close()
})
