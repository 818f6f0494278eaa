import { setTimeout as sleepMs } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { MemoryWindow } from '../../src/fabric/lending.js'
import { contractMemoryBytes } from '../../src/fabric/testing/memory-fixture.js'
import type { VerbsMemory } from '../../src/fabric/verbs/index.js'
import { RcEndpoint } from '../../src/fabric/verbs/rc-endpoint.js'
import { verbsAddon } from '../../src/native/load.js'
import { workOpcodes } from '../../src/native/verbs.js'
import { controlRange, impatient, Loopback, needsDevice } from '../players.js'

needsDevice()

let loopback: Loopback
beforeEach(() => {
  loopback = new Loopback()
  loopback.bytes.fill(7, 8_192, 8_256)
})
afterEach(async () => {
  await loopback.close()
})

type Tamper = (windows: readonly MemoryWindow[]) => readonly MemoryWindow[]
const changed = (change: (window: MemoryWindow) => Partial<MemoryWindow>): Tamper => (windows) =>
  windows.map((window) => ({ ...window, ...change(window) }))

/** A connection that has not failed works, whatever happened to others. */
async function expectFreshConnectionWorks(): Promise<void> {
  const { sampling, recovery } = loopback.connect()
  expect(await sampling.read(8_192, 4)).toEqual(new Uint8Array(4).fill(7))
  expect(await recovery.compareAndSwap(controlRange.offset, 0n, 0n)).toBe(0n)
}

describe("what the peer's device refuses", () => {
  const read = (memory: VerbsMemory): Promise<unknown> => memory.read(8_192, 8)
  type Operation = (memory: VerbsMemory) => Promise<unknown>
  const cases: readonly (readonly [what: string, tamper: Tamper, operation: Operation, offset: number, length: number])[] = [
    ['a wrong rkey', changed(({ rkey }) => ({ rkey: rkey ^ 0xff00 })), read, 8_192, 8],
    ['an address before the region', changed(({ address }) => ({ address: address - 65_536n })), read, 8_192, 8],
    ['a range beyond the end of the region', changed(({ length }) => ({ length: length + 65_536 })), (memory) => memory.read(contractMemoryBytes, 8), contractMemoryBytes, 8],
    ['an atomic on what is lent for reading', changed(() => ({ access: 'atomic' })), (memory) => memory.compareAndSwap(8_192, 0n, 1n), 8_192, 8],
  ]

  it.each(cases)('%s fails with WC_REM_ACCESS_ERR, changes nothing, and a fresh connection works', async (_what, tamper, operation, offset, length) => {
    const before = loopback.bytes.slice()
    const { sampling } = loopback.connect({ tamper })
    await expect(operation(sampling)).rejects.toMatchObject({
      code: 'WC_REM_ACCESS_ERR',
      details: { peer: 'lender', offset, length, address: expect.any(BigInt) as bigint, vendorError: expect.any(Number) as number },
    })
    expect(Buffer.compare(loopback.bytes, before)).toBe(0)
    await expectFreshConnectionWorks()
  })

  const lies: readonly (readonly [what: string, lent: MemoryWindow['access'], offset: number])[] = [
    ['reading', 'read', 8_192],
    ['atomics', 'atomic', controlRange.offset],
  ]
  it.each(lies)('a write to what is lent for %s is refused, changes nothing, and a fresh connection works', async (_what, lent, offset) => {
    const before = loopback.bytes.slice()
    const { sampling } = loopback.connect({ tamper: (windows) => windows.filter(({ access }) => access === lent).map((window) => ({ ...window, access: 'write' })) })
    // The queue pair does not allow writes at all: some devices say that, others that the access is not allowed.
    await expect(sampling.write(offset, new Uint8Array(8).fill(1))).rejects.toMatchObject({
      code: expect.stringMatching(/^WC_REM_(ACCESS|INV_REQ)_ERR$/) as string,
      details: { peer: 'lender', offset, length: 8 },
    })
    expect(Buffer.compare(loopback.bytes, before)).toBe(0)
    await expectFreshConnectionWorks()
  })

  it('ends the queue pair: everything later fails with the same cause', async () => {
    const { sampling } = loopback.connect({ tamper: changed(({ rkey }) => ({ rkey: rkey ^ 0xff00 })) })
    const prepared = sampling.prepareRead([{ offset: 8_192, length: 8 }])
    const under = await Promise.allSettled([sampling.read(0, 8), sampling.read(8, 8), prepared.run()])
    for (const outcome of under) expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'WC_REM_ACCESS_ERR' } })
    await expect(sampling.read(8_192, 8)).rejects.toMatchObject({ code: 'WC_REM_ACCESS_ERR' })
    expect(() => prepared.runSync()).toThrow(expect.objectContaining({ code: 'WC_REM_ACCESS_ERR' }) as Error)
    expect(() => prepared.latencyLoop(10)).toThrow(expect.objectContaining({ code: 'WC_REM_ACCESS_ERR' }) as Error)
  })

  it('leaves the spare alone', async () => {
    const { sampling, recovery } = loopback.connect({ tamper: (windows) => windows })
    const wrong = loopback.connect({ tamper: changed(({ rkey }) => ({ rkey: rkey ^ 0xff00 })) })
    await expect(wrong.sampling.read(8_192, 8)).rejects.toMatchObject({ code: 'WC_REM_ACCESS_ERR' })
    expect([...(await sampling.read(8_192, 2)), ...(await recovery.read(8_192, 2))]).toEqual([7, 7, 7, 7])
  })
})

describe('a batch refuses before it posts', () => {
  it('what lies outside of its windows or its region, is unaligned or not lent, and the queue pair lives on', async () => {
    const { MemoryRegion, WorkBatch } = verbsAddon()
    const { endpoint } = connectRaw(loopback)
    const region = new MemoryRegion(loopback.device.domain, { length: 4_096 })
    const batch = new WorkBatch(endpoint.queuePair, region, 4, 1e6)
    const prepare = (...row: number[]) => () => batch.prepare(workOpcodes.read, Float64Array.from(row), 1)
    const code = (wanted: string): Error => expect.objectContaining({ code: wanted }) as Error
    expect(prepare(0, contractMemoryBytes - 4, 0, 8)).toThrow(code('OUT_OF_RANGE'))
    expect(prepare(9, 0, 0, 8)).toThrow(code('OUT_OF_RANGE'))
    expect(prepare(0, 0, 4_092, 8)).toThrow(code('OUT_OF_RANGE'))
    expect(prepare(0, 0, 0, 0)).toThrow(code('INVALID_ARGUMENT'))
    expect(prepare(0, NaN, 0, 8)).toThrow(code('INVALID_ARGUMENT'))
    expect(prepare(0, 0.5, 0, 8)).toThrow(code('INVALID_ARGUMENT'))
    expect(() => batch.prepare(workOpcodes.write, Float64Array.from([0, 0, 0, 8]), 1)).toThrow(code('READ_ONLY'))
    expect(() => batch.prepareAtomic(workOpcodes.compareAndSwap, 0, 0, 0, 0n, 1n)).toThrow(code('READ_ONLY'))
    expect(() => batch.prepareAtomic(workOpcodes.compareAndSwap, 1, 4, 0, 0n, 1n)).toThrow(code('UNALIGNED'))
    expect(() => batch.runSync()).toThrow(code('INVALID_ARGUMENT'))
    batch.prepareAtomic(workOpcodes.fetchAndAdd, 1, 8, 0, 5n, 0n)
    batch.runSync()
    batch.runSync()
    expect(new BigUint64Array(region.buffer as ArrayBuffer)[0]).toBe(5n)
    expect(new BigUint64Array(loopback.memory.buffer)[(controlRange.offset + 8) / 8]).toBe(10n)
    batch.close()
    expect(() => batch.runSync()).toThrow(code('CLOSED'))
    region.close()
    endpoint.close()
  })
})

describe('a dead peer', () => {
  it('is told by WC_RETRY_EXC_ERR, of the spare as well', async () => {
    const { sampling, recovery } = loopback.connect({ queuePairs: impatient })
    loopback.kill()
    await expect(sampling.read(8_192, 8)).rejects.toMatchObject({ code: 'WC_RETRY_EXC_ERR', details: { peer: 'lender', offset: 8_192, length: 8 } })
    await expect(recovery.compareAndSwap(controlRange.offset, 0n, 1n)).rejects.toMatchObject({ code: 'WC_RETRY_EXC_ERR' })
    await expectFreshConnectionWorks()
  })

  it('is told to a synchronous run and to the native loop, too', () => {
    const { sampling, recovery } = loopback.connect({ queuePairs: impatient })
    const [one, other] = [sampling.prepareRead([{ offset: 0, length: 8 }]), recovery.prepareRead([{ offset: 0, length: 8 }])]
    loopback.kill()
    expect(() => one.runSync()).toThrow(expect.objectContaining({ code: 'WC_RETRY_EXC_ERR' }) as Error)
    expect(() => other.latencyLoop(10)).toThrow(expect.objectContaining({ code: 'WC_RETRY_EXC_ERR' }) as Error)
  })

  it("is given up at the own deadline, before the device's", async () => {
    // The device alone would try for half a second and more.
    const { sampling } = loopback.connect({ timeoutMs: 40 })
    const prepared = sampling.prepareRead([{ offset: 8_192, length: 8 }])
    loopback.kill()
    const startMs = performance.now()
    await expect(prepared.run()).rejects.toMatchObject({ code: 'TIMEOUT', details: { peer: 'lender', offset: 8_192, length: 8 } })
    expect(performance.now() - startMs).toBeGreaterThanOrEqual(39)
    // Its buffer is still the device's.
    await expect(prepared.run()).rejects.toMatchObject({ code: 'QUEUE_FULL' })
    await expect(sampling.read(8_192, 8)).rejects.toMatchObject({ code: 'TIMEOUT' })
    const code = async (): Promise<unknown> => sampling.read(8_192, 8).then(() => 'none', (error: unknown) => (error as { code: string }).code)
    // Where the device is slow to give up, all buffers are with reads that have timed out.
    while (['TIMEOUT', 'QUEUE_FULL'].includes(String(await code()))) await sleepMs(20)
    expect(await code()).toBe('WC_RETRY_EXC_ERR')
    await expect(prepared.run()).rejects.toMatchObject({ code: 'WC_RETRY_EXC_ERR' })
    await expectFreshConnectionWorks()
  })

  it('that has answered again is accepted anew under its name', async () => {
    const first = loopback.connect({ queuePairs: impatient })
    loopback.kill()
    await expect(first.sampling.read(8_192, 8)).rejects.toMatchObject({ code: 'WC_RETRY_EXC_ERR' })
    await expectFreshConnectionWorks()
  })
})

function connectRaw({ device, lender }: Loopback): { endpoint: RcEndpoint } {
  const endpoint = new RcEndpoint(device, { peer: 'lender', access: 0 })
  const spare = new RcEndpoint(device, { peer: 'lender', access: 0 })
  const { endpoints, windows } = lender.accept('raw', { sampling: endpoint.local, recovery: spare.local })
  endpoint.connect(endpoints.sampling, windows)
  spare.close()
  return { endpoint }
}
