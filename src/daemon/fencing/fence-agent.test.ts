import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { BackdoorsError } from '../../errors.js'
import { until } from '../../../addon/test/native-fixture.js'
import { agentInput, callAgent, fenceByAgent } from './fence-agent.js'
import { fenceSchema, isAgentFence, type AgentFence } from './fence-config.js'
import { makeAgent } from '../testing/made-agent.js'

const folder = mkdtempSync(join(tmpdir(), 'backdoors-fence-'))
afterAll(() => rmSync(folder, { recursive: true }))

function fenceOf(input: object): AgentFence {
  const fence = fenceSchema.parse(input)
  if (!isAgentFence(fence)) throw new Error('this is no agent')
  return fence
}

async function failureOf(fence: AgentFence): Promise<BackdoorsError> {
  const error = await fenceByAgent(fence, 'a').then(() => undefined, (thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(BackdoorsError)
  return error as BackdoorsError
}

/** Is it gone, or dead and not yet waited for? */
function isGone(pid: number): boolean {
  try {
    return /^\d+ \(.*\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return true
  }
}

const secret = 'correct horse battery staple'

describe('what a fence agent is told', () => {
  it('is one option a line, with the node and the action last', () => {
    const fence = fenceOf({ agent: 'fence_apc', options: { ip: '10.0.0.9', username: 'ops', password: 'a=b c', ssl: true, lanplus: false }, plugs: { a: '3' } })
    expect(agentInput(fence, 'off', 'a')).toBe('ip=10.0.0.9\nusername=ops\npassword=a=b c\nssl=1\nlanplus=0\nnodename=a\nplug=3\naction=off\n')
  })

  it('is the node\'s own name where no plug is given, under the name that older agents know', () => {
    expect(agentInput(fenceOf({ agent: 'fence_xvm', plugOption: 'port' }), 'reboot', 'b')).toBe('nodename=b\nport=b\naction=reboot\n')
  })

  it('has the options of that node in the stead of those of all', () => {
    const fence = fenceOf({ agent: 'fence_ipmilan', options: { ip: '10.0.0.1', username: 'ops' }, nodes: { a: { ip: '10.0.0.2' }, b: { ip: '10.0.0.3' } } })
    expect(agentInput(fence, 'off', 'a')).toBe('ip=10.0.0.2\nusername=ops\nnodename=a\nplug=a\naction=off\n')
  })
})

describe('a fence agent', () => {
  it('gets its options on standard input alone: neither as arguments nor in its environment', async () => {
    const agent = makeAgent(folder, 'fence_told')
    await fenceByAgent(fenceOf({ agent: agent.path, options: { password: secret }, plugs: { a: '7' }, action: 'reboot' }), 'a')
    const [call, ...others] = agent.calls()
    expect(others).toEqual([])
    expect(call).toMatchObject({ input: `password=${secret}\nnodename=a\nplug=7\naction=reboot\n`, args: [] })
    expect(JSON.stringify(call?.env)).not.toContain(secret)
  })

  it('has fenced the node where it exits with 0, and what it printed is given', async () => {
    const agent = makeAgent(folder, 'fence_says', 'console.log("Success: Powered OFF"); console.error("took 2 tries")')
    expect(await fenceByAgent(fenceOf({ agent: agent.path }), 'a')).toBe('Success: Powered OFF\ntook 2 tries')
  })

  it('is found in the folders for administrators, whatever PATH says', async () => {
    const agent = makeAgent(folder, 'fence_path', 'console.log(process.env.PATH)')
    expect((await fenceByAgent(fenceOf({ agent: agent.path }), 'a')).split(':')).toEqual(expect.arrayContaining(['/usr/sbin', '/sbin']))
  })

  it('can be asked whether its device answers', async () => {
    const agent = makeAgent(folder, 'fence_monitor', 'process.exit(input.includes("action=monitor\\n") ? 0 : 9)')
    expect((await callAgent(fenceOf({ agent: agent.path }), 'monitor', 'a')).end.status).toBe(0)
  })
})

describe('a fence agent that fails', () => {
  it.each([1, 2, 127])('by exit status %i, with what it said', async (status) => {
    const agent = makeAgent(folder, `fence_fails_${status}`, `console.error('Unable to connect/login'); process.exit(${status})`)
    expect(await failureOf(fenceOf({ agent: agent.path }))).toMatchObject({
      code: 'FENCE_FAILED', details: { peer: 'a' }, message: `${agent.path}, action off, node a: exited with ${status}: Unable to connect/login`,
    })
  })

  it('because it is not there, and says which package has it', async () => {
    expect(await failureOf(fenceOf({ agent: 'fence_nowhere' }))).toMatchObject({
      code: 'FENCE_FAILED', message: 'fence_nowhere, action off, node a: there is no such agent on this machine (Debian: apt-get install fence-agents)',
      cause: expect.objectContaining({ code: 'ENOENT' }) as Error,
    })
  })

  it('by a signal', async () => {
    const agent = makeAgent(folder, 'fence_killed', 'process.kill(process.pid, "SIGTERM"); setInterval(() => {}, 1000)')
    expect(await failureOf(fenceOf({ agent: agent.path }))).toMatchObject({ code: 'FENCE_FAILED', message: expect.stringMatching(/was ended by SIGTERM$/) as string })
  })

  it('by taking too long, and is killed then with all that it has started', async () => {
    const path = join(folder, 'fence_hangs')
    // Of the shell, so that it has long begun when its time is over.
    writeFileSync(path, '#!/bin/sh\nsleep 1000 & echo $$ $!; wait\n', { mode: 0o755 })
    const error = await failureOf(fenceOf({ agent: path, timeoutMs: 3000 }))
    expect(error).toMatchObject({ code: 'FENCE_FAILED', message: expect.stringMatching(/took longer than 3000 ms: \d+ \d+$/) as string })
    const pids = /(\d+) (\d+)$/.exec(error.message)?.slice(1).map(Number) ?? []
    expect(pids).toHaveLength(2)
    await until('agent and helper are gone', () => pids.every(isGone))
  })
})

describe('what an option holds', () => {
  const options = { password: secret, username: 'opsuser', pin: '42' }

  it('stands in no error, though the agent prints it: whole, or beside its option\'s name', async () => {
    const agent = makeAgent(folder, 'fence_tells', 'console.log(input); console.error(`unknown option: ${input}`); process.exit(1)')
    const error = await failureOf(fenceOf({ agent: agent.path, options }))
    const told = JSON.stringify(error) + error.message
    for (const value of [secret, 'opsuser', '=42']) expect(told).not.toContain(value)
    expect(error.message).toContain('password=***\nusername=***\npin=***\nnodename=a\nplug=a\naction=off')
  })

  it('stands in no output that is logged either', async () => {
    const agent = makeAgent(folder, 'fence_chats', 'console.log(input)')
    expect(await fenceByAgent(fenceOf({ agent: agent.path, options }), 'a')).not.toContain(secret)
  })

  it('does not show by a part that is left where a long output was cut', async () => {
    const agent = makeAgent(folder, 'fence_floods', `for (let i = 0; i < 2000; i++) process.stdout.write(${JSON.stringify(secret)})`)
    const output = await fenceByAgent(fenceOf({ agent: agent.path, options }), 'a')
    expect(output).toMatch(/^[*]+$/)
  })
})
