/** The command line as its users run it: as a process. */
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import type { DaemonConfigInput } from '../daemon/config.js'
import { memoryAddon } from '../native/load.js'
import { CliProcess } from './testing/cli-process.js'
import { compileProgram, type CompiledProgram } from './testing/compile.js'

// A process takes seconds to start where the machine is loaded.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

let program: CompiledProgram
let folder: string
const running: CliProcess[] = []

beforeAll(() => {
  program = compileProgram()
  folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'backdoors-process-'))
})

afterEach(async () => {
  await Promise.all(running.splice(0).map((cli) => cli.destroy()))
})

afterAll(() => {
  program.remove()
  rmSync(folder, { recursive: true })
})

function start(args: readonly string[], env?: Record<string, string>): CliProcess {
  const cli = new CliProcess(program.main, args, env)
  running.push(cli)
  return cli
}

function configFile(node: string, more: Partial<DaemonConfigInput> = {}): string {
  const path = join(folder, `${node}.json`)
  const config: DaemonConfigInput = { node, region: { path: `${node}.region`, boxes: 2, sessionsPerBox: 64, heapBytes: 65_536 }, log: 'silent', watch: { osDeadlineMs: 1000 }, ...more }
  writeFileSync(path, JSON.stringify(config))
  return path
}

describe('a daemon', () => {
  it.each<NodeJS.Signals>(['SIGTERM', 'SIGINT'])('says where it lends, by the clock of all processes, and ends in order on %s', async (signal) => {
    const beforeMs = memoryAddon().monotonicUs() / 1000
    const daemon = start(['daemon', '--config', configFile('a'), '--json'])
    const listening = await daemon.event('listening')
    expect(listening).toMatchObject({ node: 'a', region: join(folder, 'a.region'), fabric: 'shm', pid: daemon.child.pid, watches: [] })
    expect(listening['atMs']).toBeGreaterThan(beforeMs)
    expect(listening['atMs']).toBeLessThan(memoryAddon().monotonicUs() / 1000)
    daemon.signal(signal)
    expect(await daemon.ended()).toEqual({ code: 0, signal: null })
    expect(daemon.events.at(-1)).toMatchObject({ event: 'closed', reason: signal })
    expect(daemon.stderr).toBe('')
    expect(existsSync(join(folder, 'a.region.sock'))).toBe(false)
  })

  it('takes up its keys anew on SIGHUP, and goes on', async () => {
    const daemon = start(['daemon', '--config', configFile('reloading'), '--json'])
    await daemon.event('listening')
    daemon.signal('SIGHUP')
    expect(await daemon.event('reloaded')).toMatchObject({ ok: true })
    daemon.signal('SIGTERM')
    expect(await daemon.ended()).toEqual({ code: 0, signal: null })
  })

  it('keeps its incarnation over a restart', async () => {
    const config = configFile('kept')
    const first = start(['daemon', '--config', config, '--json'])
    const { incarnation } = await first.event('listening')
    first.signal('SIGKILL')
    await first.ended()
    const second = start(['daemon', '--config', config, '--json'])
    expect(await second.event('listening')).toMatchObject({ incarnation })
  })

  it('is refused a region that another daemon lends', async () => {
    const config = configFile('once')
    const first = start(['daemon', '--config', config, '--json'])
    await first.event('listening')
    const second = start(['daemon', '--config', config, '--json'])
    expect(await second.ended()).toEqual({ code: 1, signal: null })
    expect(second.events).toEqual([{ error: expect.objectContaining({ code: 'BOX_IN_USE', path: join(folder, 'once.region') }) as object }])
    expect(second.stderr).toMatch(/^backdoors: Another daemon lends .*\(BOX_IN_USE\)\n$/)
    first.signal('SIGTERM')
    expect(await first.ended()).toEqual({ code: 0, signal: null })
  })

  it('with a bad key in its configuration ends with 2 and names the key', async () => {
    const path = configFile('bad', { watch: { osDeadlineMs: 0 } })
    const daemon = start(['daemon', '--config', path, '--json'])
    expect(await daemon.ended()).toEqual({ code: 2, signal: null })
    expect(daemon.events).toEqual([{ error: expect.objectContaining({ code: 'CONFIG_INVALID', path, field: 'watch.osDeadlineMs' }) as object }])
    expect(daemon.stderr).toContain('watch.osDeadlineMs')
  })

  it('whose port for metrics is taken ends with 1, and lends nothing', async () => {
    const taken = spawn(process.execPath, ['-e', 'require("net").createServer().listen(0, "127.0.0.1", function () { console.log(this.address().port) })'], { stdio: ['ignore', 'pipe', 'ignore'] })
    try {
      const port = Number(await new Promise((resolve) => taken.stdout.once('data', (chunk: Buffer) => resolve(chunk.toString()))))
      const daemon = start(['daemon', '--config', configFile('metrics', { metrics: { port } }), '--json'])
      expect(await daemon.ended()).toEqual({ code: 1, signal: null })
      expect(daemon.stderr).toMatch(/Cannot serve metrics on 127\.0\.0\.1.*\(SYSTEM_CALL_FAILED\)/)
      expect(existsSync(join(folder, 'metrics.region.sock'))).toBe(false)
    } finally {
      taken.kill()
    }
  })

  it('that was frozen, and fenced meanwhile, ends with 4 once it is woken; its recoverer tells each step', async () => {
    const watch = { osDeadlineMs: 200 }
    const watcher = start(['daemon', '--config', configFile('w', { watch, peers: [{ name: 'v', region: 'v.region' }] }), '--json'])
    const victim = start(['daemon', '--config', configFile('v', { watch }), '--json'])
    await Promise.all([watcher.event('listening'), victim.event('listening')])
    await connected(watcher)
    victim.signal('SIGSTOP')
    expect(await watcher.event('verdict')).toMatchObject({ peer: 'v', verdict: 'os-stalled', by: 'w', seen: expect.stringContaining('OS sensor') as string })
    expect(await watcher.event('recovered')).toMatchObject({ peer: 'v', target: { kind: 'node' }, outcome: 'announced', found: 0 })
    const steps = watcher.events.filter(({ event }) => event === 'step')
    expect(steps.map(({ step }) => step)).toEqual(['suspected', 'fenced', 'claimed', 'extracted', 'adopted', 'announced'])
    expect(steps.map(({ atMs }) => atMs)).toEqual(steps.map(({ atMs }) => Number(atMs)).sort((one, other) => one - other))
    victim.signal('SIGCONT')
    expect(await victim.ended()).toEqual({ code: 4, signal: null })
    expect(victim.events.slice(-2)).toMatchObject([{ event: 'fenced' }, { event: 'closed', reason: 'fenced' }])
    expect(victim.stderr).toContain('(FENCED)')
  })
})

/** Resolves when the daemon samples its peer: it is asked as an operator would ask it. */
async function connected(daemon: CliProcess): Promise<void> {
  const region = String((await daemon.event('listening'))['region'])
  for (;;) {
    const status = new CliProcess(program.main, ['status', '--region', region, '--json'])
    const { code } = await status.ended()
    const peers = status.events[0]?.['peers'] as { rounds?: number }[] | undefined
    if (code === 0 && (peers?.[0]?.rounds ?? 0) > 0) return
  }
}

describe('the program', () => {
  it('prints its help where the addon is not there, and says so where it is needed', async () => {
    const env = { ...process.env, BACKDOORS_ADDON_DIR: join(folder, 'nowhere') }
    const help = spawn(process.execPath, [program.main, '--help'], { env, stdio: ['ignore', 'pipe', 'inherit'] })
    const text = await new Promise<string>((resolve) => {
      let all = ''
      help.stdout.on('data', (chunk: Buffer) => (all += chunk.toString()))
      help.once('close', () => resolve(all))
    })
    expect(text).toContain('Exit codes:')
    expect(help.exitCode).toBe(0)
    const daemon = start(['daemon', '--config', configFile('none'), '--json'], { BACKDOORS_ADDON_DIR: join(folder, 'nowhere') })
    expect(await daemon.ended()).toEqual({ code: 3, signal: null })
    expect(daemon.stderr).toMatch(/npm rebuild backdoors.*\(ADDON_NOT_BUILT\)/)
  })

  it('does not mind a reader that goes away', async () => {
    const cli = spawn(process.execPath, [program.main, '--help'], { stdio: ['ignore', 'pipe', 'pipe'] })
    cli.stdout.destroy()
    let stderr = ''
    cli.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
    const code = await new Promise((resolve) => cli.once('close', resolve))
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  })

  it('as a daemon works on when the reader of its events goes away', async () => {
    const daemon = start(['daemon', '--config', configFile('unread'), '--json'])
    await daemon.event('listening')
    daemon.child.stdout?.destroy()
    daemon.signal('SIGTERM')
    expect(await daemon.ended()).toEqual({ code: 0, signal: null })
    expect(daemon.stderr).toBe('')
  })
})
