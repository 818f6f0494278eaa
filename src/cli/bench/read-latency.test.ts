/** Benchmarks run tiny here, so that they cannot rot. How fast this machine is under its tests says nothing. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { Command } from 'commander'
import { afterAll, describe, expect, it, vi } from 'vitest'
import { Output } from '../output.js'
import { measureLatency } from './latency.js'
import { openTarget } from './read-latency.js'
import { registerReadLatency } from './register.js'
import { openShmTarget } from './shm-target.js'
import type { BenchRead } from './target.js'

const folder = mkdtempSync(join(tmpdir(), 'backdoors-bench-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

async function bench(...argv: string[]): Promise<{ stdout: string; stderr: string }> {
  const texts = { stdout: '', stderr: '' }
  const stream = (name: keyof typeof texts): Writable => new Writable({ write: (chunk: Buffer, _, done) => ((texts[name] += chunk.toString()), done()) })
  const program = new Command('backdoors').exitOverride()
  const output = new Output(stream('stdout'), stream('stderr'), false)
  const command = program.command('bench').exitOverride().configureOutput({ writeErr: () => undefined })
  registerReadLatency(command, output)
  await program.parseAsync(['bench', 'read-latency', '--fabric', 'shm', '--sizes', '8,65536', '--iterations', '20', ...argv], { from: 'user' })
  return texts
}

const inOrder = ({ p50, p99, p999, max }: { p50: number; p99: number; p999: number; max: number }): boolean => p50 > 0 && p50 <= p99 && p99 <= p999 && p999 <= max

describe('bench read-latency', () => {
  it('ends with one JSON object of all that was measured', async () => {
    const { stdout } = await bench('--json')
    const result = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as Record<string, unknown> & { latency: { tier: string; size: number; us: Parameters<typeof inOrder>[0] }[] }
    expect(result).toMatchObject({
      fabric: 'shm', device: 'shm', iterations: 20, commit: expect.stringMatching(/\w/) as string, kernel: expect.stringMatching(/\d/) as string,
      throughput: [{ by: 'readMany', size: 64, reads: 64 }, { by: 'prepared', size: 65536, reads: 4 }, { by: 'readMany', size: 65536, reads: 4 }],
    })
    expect(result.latency.map(({ tier, size }) => `${tier} ${size}`)).toEqual(['synchronous 8', 'awaited 8', 'synchronous 65536', 'awaited 65536'])
    expect(result.latency.every(({ us }) => inOrder(us))).toBe(true)
    for (const { readsPerSecond } of result['throughput'] as { readsPerSecond: number }[]) expect(readsPerSecond).toBeGreaterThan(0)
  })

  it('prints tables for people', async () => {
    const { stdout } = await bench()
    expect(stdout).toMatch(/p99\.9/)
    expect(stdout).toMatch(/t_typical/)
    expect(stdout).toMatch(/prepared\W+65536\W+4\W+\d+\W+\d+\.\d/)
  })

  it('appends to its history, writes every sample, and draws', async () => {
    const [history, raw, plot] = [join(folder, 'history', 'bench.ndjson'), join(folder, 'raw'), join(folder, 'plot.svg')]
    await bench('--history', history, '--raw', raw, '--plot', plot)
    await bench('--history', history)
    const rows = readFileSync(history, 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line) as { name: string })
    expect(rows).toHaveLength(14)
    for (const row of rows) expect(Object.keys(row)).toEqual(['name', 'unit', 'samples', 'p50', 'p99', 'p99.9', 'commit', 'kernel', 'device'])
    expect(rows[0]).toMatchObject({ name: 'read-latency/synchronous/8', unit: 'µs', samples: 20 })
    expect(readdirSync(raw).sort()).toEqual(['awaited-65536.txt', 'awaited-8.txt', 'synchronous-65536.txt', 'synchronous-8.txt'])
    expect(readFileSync(join(raw, 'awaited-8.txt'), 'utf8').trimEnd().split('\n')).toHaveLength(20)
    const svg = readFileSync(plot, 'utf8')
    expect(svg).toMatch(/^<svg .*65536 B.*<\/svg>\s*$/s)
    expect(svg).not.toMatch(/NaN|undefined/)
  })

  it('says what to install where vega is not', async () => {
    vi.doMock('vega', () => {
      throw new Error("Cannot find package 'vega'")
    })
    await expect(bench('--plot', join(folder, 'none.svg'))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(/npm install vega/) as string })
    vi.doUnmock('vega')
  })

  it.each([['--sizes', '8,x'], ['--sizes', '0'], ['--sizes', '1048577'], ['--iterations', '0'], ['--fabric', 'mock']])('refuses %s %s', async (...argv) => {
    await expect(bench(...argv)).rejects.toMatchObject({ code: expect.stringMatching(/^(commander\.invalidArgument|INVALID_ARGUMENT)$/) as string })
  })
})

describe('the target', () => {
  it('is shm, and says why, where auto finds no verbs', async () => {
    vi.doMock('./verbs-target.js', async () => {
      const { BackdoorsError } = await import('../../errors.js')
      return { openVerbsTarget: () => Promise.reject(new BackdoorsError('DEVICE_NOT_FOUND', 'no RDMA device has an active port')) }
    })
    const { target, fallback } = await openTarget('auto', {})
    expect({ fabric: target.fabric, fallback }).toEqual({ fabric: 'shm', fallback: 'no RDMA device has an active port' })
    await target.close()
    await expect(openTarget('auto', { device: 'rxe0' })).rejects.toMatchObject({ code: 'DEVICE_NOT_FOUND' })
    await expect(openTarget('verbs', {})).rejects.toMatchObject({ code: 'DEVICE_NOT_FOUND' })
    vi.doUnmock('./verbs-target.js')
  })
})

describe('measuring latency', () => {
  it('runs the poll loop where there is one, and tells reads by event from others', async () => {
    const target = openShmTarget()
    const shm = target.prepare([{ offset: 0, length: 8 }])
    let runs = 0
    const read: BenchRead = {
      ...shm,
      latencyLoop: (iterations) => {
        shm.runSync?.()
        return Float64Array.from({ length: iterations }, () => 1000)
      },
      start: () => {
        runs += 1
        const promise = shm.start()
        return runs % 2 === 0 ? promise : undefined
      },
    }
    expect((await measureLatency(read, 'native', 10, 2))?.ns).toEqual(new Float64Array(10).fill(1000))
    expect((await measureLatency(read, 'awaited', 10, 2))?.byEvent.filter((flag) => flag === 1)).toHaveLength(5)
    shm.close()
    await target.close()
  })

  it('fails where other bytes come than lie there', async () => {
    const target = openShmTarget()
    const { views, close } = target.prepare([{ offset: 0, length: 8 }])
    const read: BenchRead = { views, runSync: () => void views[0]?.fill(1), start: () => undefined, close }
    await expect(measureLatency(read, 'synchronous', 3, 0)).rejects.toThrow(/other bytes/)
    await expect(measureLatency(read, 'awaited', 3, 0)).rejects.toThrow(/other bytes/)
    read.close()
    await target.close()
  })
})
