import { describe, expect, it } from 'vitest'
import { runHook, type HookOptions } from './hooks.js'

const node = (script: string, more: Partial<HookOptions> = {}): HookOptions => ({ command: [process.execPath, '-e', script], timeoutMs: 20_000, input: { action: 'fence', node: 'b' }, env: {}, ...more })

describe('a hook', () => {
  it('is told what is wanted as one line of JSON on its standard input', async () => {
    const output = await runHook('FENCE_FAILED', node('process.stdin.pipe(process.stdout)'))
    expect(output).toBe('{"action":"fence","node":"b"}\n')
  })

  it('has the environment that it is given, beside the daemon\'s own', async () => {
    const output = await runHook('FENCE_FAILED', node('console.log(process.env.BACKDOORS_NODE, process.env.PATH !== undefined)', { env: { BACKDOORS_NODE: 'b' } }))
    expect(output).toBe('b true\n')
  })

  it('gets its arguments as they are: no shell is involved', async () => {
    const { command } = node('console.log(process.argv.slice(1).join())')
    expect(await runHook('FENCE_FAILED', node('', { command: [...command, '$HOME', '; exit 1', '*'] }))).toBe('$HOME,; exit 1,*\n')
  })

  it('need not read its standard input', async () => {
    await expect(runHook('FENCE_FAILED', node('process.stdin.destroy(); console.log("done")', { input: 'x'.repeat(1 << 20) }))).resolves.toBe('done\n')
  })

  it('gives the last 4 KiB of what it printed', async () => {
    const output = await runHook('FENCE_FAILED', node('console.log("a".repeat(100000)); console.log("end")'))
    expect(output).toHaveLength(4096)
    expect(output).toMatch(/end\n$/)
  })
})

describe('a hook that fails', () => {
  it('by its exit status, with what it said', async () => {
    await expect(runHook('FENCE_FAILED', node('console.error("no such switch port"); process.exit(3)'))).rejects.toMatchObject({
      code: 'FENCE_FAILED', message: expect.stringMatching(/exited with 3: no such switch port$/) as string,
    })
  })

  it('because it cannot be started', async () => {
    await expect(runHook('ANNOUNCE_FAILED', node('', { command: ['/nowhere/announce'] }))).rejects.toMatchObject({
      code: 'ANNOUNCE_FAILED', message: expect.stringContaining('/nowhere/announce') as string, cause: expect.objectContaining({ code: 'ENOENT' }) as Error,
    })
  })

  it('by a signal', async () => {
    await expect(runHook('FENCE_FAILED', node('process.kill(process.pid, "SIGTERM"); setInterval(() => {}, 1000)'))).rejects.toMatchObject({
      code: 'FENCE_FAILED', message: expect.stringContaining('was ended by SIGTERM') as string,
    })
  })

  it('by taking too long, and is killed then', async () => {
    const startedMs = performance.now()
    await expect(runHook('FENCE_FAILED', node('setInterval(() => {}, 1000)', { timeoutMs: 300 }))).rejects.toMatchObject({
      code: 'FENCE_FAILED', message: expect.stringContaining('took longer than 300 ms') as string,
    })
    expect(performance.now() - startedMs).toBeLessThan(15_000)
  })
})
