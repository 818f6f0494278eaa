import { describe, expect, it } from 'vitest'
import { surviveDamage, withBytes } from '../testing/hostile-memory.js'
import { panickedHost, reported } from '../testing/panicked-host.js'
import { readCpus } from './cpus.js'
import { readMemoryUse, type MemoryItem } from './memory-use.js'
import { readUptime } from './uptime.js'

const host = await panickedHost()
const pointer = (value: bigint): Uint8Array => new Uint8Array(BigUint64Array.of(value).buffer)

describe('the CPUs of a host that panicked', () => {
  it('are the one that panicked and the one that was stopped, with what they ran', async () => {
    const { cpus, faults } = await readCpus(host)
    expect(faults).toEqual([])
    expect(cpus).toMatchObject([
      { cpu: 0, isOnline: false, isIdle: true, running: 0, current: { pid: 0, comm: 'swapper/0' } },
      { cpu: 1, isOnline: true, isIdle: false, running: 1, isTickStopped: false, current: { pid: 231, comm: 'sh' } },
    ])
  })

  it('have spent as much time as /proc/stat had said, and some more', async () => {
    const { cpus } = await readCpus(host)
    const ticks = (reported['stat'] as string).split('\n').slice(1, 3).map((line) => line.split(/\s+/).slice(1).map(Number))
    for (const [i, { times }] of cpus.entries()) {
      const [user, , system, idle] = ticks[i] as [number, number, number, number]
      for (const [now, before] of [[times?.user, user], [times?.system, system], [times?.idle, idle]] as const) {
        expect(Number(now) / 1e9).toBeGreaterThanOrEqual(before / 100 - 0.01)
        expect(Number(now) / 1e9).toBeLessThan(before / 100 + 3)
      }
    }
  })

  it('have no task where the task is nowhere, and say so', async () => {
    const [queue] = await host.perCpu('runqueues', [1])
    const curr = (queue as bigint) + BigInt(host.types.member('rq', 'curr')?.offset ?? 0)
    const { cpus, faults } = await readCpus(await withBytes(host, curr, pointer(0x1000n)))
    expect(cpus[1]).toMatchObject({ current: undefined, isIdle: false })
    expect(faults).toMatchObject([{ code: 'NOT_MAPPED' }])
  })
})

describe('the uptime of a host that panicked', () => {
  it('goes on where it had last said it, with the load it had last said', async () => {
    const { uptimeSeconds, load } = await readUptime(host)
    const [up, average] = (reported['uptime'] as string).split('\n') as [string, string]
    expect(uptimeSeconds - Number(up.split(' ')[0])).toBeGreaterThan(0)
    expect(uptimeSeconds - Number(up.split(' ')[0])).toBeLessThan(5)
    expect(load).toEqual(average.split(' ').slice(0, 3).map(Number))
  })
})

describe('the memory of a host that panicked', () => {
  it('was used as /proc/meminfo had said, within a few MiB', async () => {
    const { bytes, faults } = await readMemoryUse(host)
    expect(faults).toEqual([])
    const said = new Map([...(reported['meminfo'] as string).matchAll(/^([^:\n]+): +(\d+) kB$/gm)].map(([, name, kib]) => [name as MemoryItem, Number(kib)]))
    for (const [name, value] of Object.entries(bytes)) {
      const expected = said.get(name as MemoryItem)
      expect({ name, far: Math.abs((value ?? NaN) / 1024 - (expected ?? NaN)) < 4096 }).toEqual({ name, far: true })
    }
    expect((bytes.MemTotal ?? 0) / 1024).toBe(said.get('MemTotal'))
    expect(Object.keys(bytes).length).toBe(25)
  })

  it('leaves out what hangs on a list that is damaged, and says so', async () => {
    const { bytes, faults } = await readMemoryUse(await withBytes(host, host.addressOf('blockdev_superblock'), pointer(0x1000n)))
    expect(bytes).toMatchObject({ Buffers: undefined, Cached: undefined })
    expect(bytes.MemFree).toBeGreaterThan(0)
    expect(faults).toMatchObject([{ code: 'NOT_MAPPED' }])
  })
})

it('CPUs, uptime and memory, damaged on the way, give an answer or an error', async () => {
  for (const read of [readCpus, readUptime, readMemoryUse]) await surviveDamage<unknown>(host, [6, 40], 300, read)
})
