import { describe, expect, it } from 'vitest'
import { offsetOf, surviveDamage, withBytes, withPatches } from '../testing/hostile-memory.js'
import { panickedHost, reported } from '../testing/panicked-host.js'
import { judgePulse } from './judge-pulse.js'
import { judgePanic } from './panic-state.js'
import { PulseReader } from './pulse.js'
import { timekeeperOf, timeOf } from './timekeeper.js'

const host = await panickedHost()
const word = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer)

describe('the pulse of a host that panicked', () => {
  it('shows the CPU that panicked, busy, and its clock where the log ends', async () => {
    const reader = await PulseReader.prepare(host)
    const pulse = await reader.read(() => 17)
    expect(pulse).toMatchObject({ atUs: 17, panic: { panicCpu: 1, isPanicked: true }, cpus: [{ cpu: 1, isIdle: false, isTickStopped: false }] })
    const seconds = Number(pulse.kernelTimeNs) / 1e9
    expect(seconds).toBeGreaterThan(Number((reported['uptime'] as string).split(' ')[0]))
    expect(seconds).toBeLessThan(20)
    // 250 ticks a second, and next to the clock: the timer was set for the next of them.
    expect(Number((pulse.cpus[0]?.nextEventNs ?? 0n) - pulse.kernelTimeNs) / 1e9).toBeLessThan(0.01)
    // INITIAL_JIFFIES is 5 minutes before 32 bits wrap.
    expect(Math.abs(Number(pulse.jiffies - 4294967296n + 300n * 250n) / 250 - seconds)).toBeLessThan(1)
    expect(judgePanic(pulse.panic, 0, 1000)).toBe('panic_cpu is 1, and of 2 CPUs only 1 is online')
  })

  it('costs one batch each time', async () => {
    const reader = await PulseReader.prepare(host)
    const before = host.physical.cost.operations
    await reader.read(() => 0)
    expect(host.physical.cost.operations - before).toBeLessThanOrEqual(5 + 8)
  })

  it('has a CPU that comes online, and one that goes offline no more', async () => {
    const online = host.addressOf('__cpu_online_mask')
    const mask = Uint8Array.of(2)
    const reader = await PulseReader.prepare(withPatches(host, new Map([[await offsetOf(host, online), mask]])))
    const cpusAt = async (online: number): Promise<number[]> => {
      mask[0] = online
      return (await reader.read(() => 0)).cpus.map(({ cpu }) => cpu)
    }
    expect([await cpusAt(2), await cpusAt(3), await cpusAt(1)]).toEqual([[1], [0, 1], [0]])
  })

  it('knows no next event where the timer is nowhere', async () => {
    const [device] = await host.perCpu('tick_cpu_device', [1])
    const image = await withBytes(host, device as bigint, new Uint8Array(8).fill(0xff))
    expect((await (await PulseReader.prepare(image)).read(() => 0)).cpus[0]?.nextEventNs).toBeUndefined()
  })

  it('is refused with the error that tells what it lacks', async () => {
    await expect(PulseReader.prepare(await withBytes(host, host.addressOf('__cpu_possible_mask'), word(0)))).rejects.toMatchObject({ code: 'KERNEL_DATA_CORRUPT', details: { field: '__cpu_possible_mask' } })
  })

  it('damaged on the way gives an answer or an error', async () => {
    await surviveDamage(host, [8, 60], 500, async (image) => {
      const reader = await PulseReader.prepare(image)
      const pulses = [await reader.read(() => 0), await reader.read(() => 2_000_000)]
      return judgePulse(pulses, { nowUs: 2_000_000, deadlineUs: 1_000_000 })
    })
  })
})

it('the kernel\'s clocks agree with each other', async () => {
  const { address, selection } = timekeeperOf(host)
  const { monotonicNs, bootNs, realNs } = timeOf(await host.readObject(selection, address))
  expect(bootNs).toBe(monotonicNs)
  const audit = /audit\((\d+)\.(\d+):1\)/.exec(reported['dmesg'] as string)
  const [startedAt, logged] = [Number(realNs - monotonicNs) / 1e9, Number(`${audit?.[1]}.${audit?.[2]}`)]
  expect(Math.abs(startedAt - logged)).toBeLessThan(2)
})
