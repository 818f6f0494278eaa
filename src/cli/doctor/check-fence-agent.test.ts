import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { parseConfig } from '../../daemon/config.js'
import { makeAgent } from '../../daemon/testing/made-agent.js'
import { jsonOf, runCli } from '../testing/run-cli.js'
import { checkFenceAgent } from './check-fence-agent.js'
import type { Finding } from './finding.js'

const folder = mkdtempSync(join(tmpdir(), 'backdoors-doctor-'))
afterAll(() => rmSync(folder, { recursive: true }))

const peers = ['b', 'c'].map((name) => ({ name, region: `/${name}` }))
const check = (fence?: object): Promise<Finding[]> => checkFenceAgent(parseConfig({ node: 'a', peers, recovery: fence ? { fence } : {} }))

describe('the fencing device', () => {
  it('is none where no agent is configured', async () => {
    expect([await check(), await check({ command: ['/bin/false'] })]).toEqual([[], []])
  })

  it('is asked once where there is one for all', async () => {
    const agent = makeAgent(folder, 'fence_one')
    expect(await check({ agent: agent.path, options: { ip: '10.0.0.9' } })).toMatchObject([{ check: 'fence-agent', severity: 'ok', seen: `${agent.path}: the device answers` }])
    expect(agent.calls().map(({ input }) => input)).toEqual(['ip=10.0.0.9\nnodename=b\nplug=b\naction=monitor\n'])
  })

  it('is asked of each node where each has its own, and may say that the node is off', async () => {
    const agent = makeAgent(folder, 'fence_each', 'process.exit(2)')
    expect(await check({ agent: agent.path, nodes: { b: { ip: '10.0.0.11' }, c: { ip: '10.0.0.12' } } })).toMatchObject([{ severity: 'ok', seen: `${agent.path}: the device answers for b, c` }])
    expect(agent.calls().map(({ input }) => /ip=(.*)/.exec(input)?.[1]).sort()).toEqual(['10.0.0.11', '10.0.0.12'])
  })

  it('is not said to answer where no node is known to ask it of', async () => {
    const agent = makeAgent(folder, 'fence_unasked')
    const alone = parseConfig({ node: 'a', membership: { file: '/members.yaml' }, recovery: { fence: { agent: agent.path } } })
    expect(await checkFenceAgent(alone)).toMatchObject([{ severity: 'warn', seen: expect.stringContaining('was not asked') as string }])
    expect(agent.calls()).toEqual([])
  })

  it('that does not answer is bad where fencing is required, and a warning where it is not', async () => {
    const agent = makeAgent(folder, 'fence_silent', 'console.error("Unable to connect/login", input); process.exit(1)')
    const options = { password: 'correct horse' }
    const [bad] = await check({ agent: agent.path, options })
    expect(bad).toMatchObject({ severity: 'bad', seen: expect.stringContaining('node b: exited with 1: Unable to connect/login password=***') as string, mend: expect.stringContaining('apt-get install fence-agents') as string })
    expect(await check({ agent: agent.path, options, required: false })).toMatchObject([{ severity: 'warn' }])
    expect(await check({ agent: 'fence_nowhere' })).toMatchObject([{ severity: 'bad', seen: expect.stringContaining('ENOENT') as string }])
  })

  it('is among the findings of the command', async () => {
    const agent = makeAgent(folder, 'fence_cli')
    const config = join(folder, 'config.yaml')
    writeFileSync(config, JSON.stringify({ node: 'a', peers, recovery: { fence: { agent: agent.path } } }))
    const { findings } = jsonOf(await runCli(['doctor', '--config', config, '--json'])) as { findings: Finding[] }
    expect(findings.filter(({ check: name }) => name === 'fence-agent')).toMatchObject([{ severity: 'ok' }])
  })
})
