/** What needs no right to change a network: reading of arguments, and what the kernel refuses. */
import { once } from 'node:events'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { expectCode } from '../../addon/test/native-fixture.js'
import { BackdoorsError } from '../errors.js'
import { capabilityName, hasCapability, missingCapabilities } from './capabilities.js'
import { networkAddon } from './load.js'

const four = Uint8Array.of(192, 0, 2, 1)
const anything = fc.oneof(
  fc.constantFrom<unknown>(undefined, null, true, '', 'absent', 'a\0b', 'x'.repeat(16), 'x'.repeat(300), 0n, Symbol('s'), () => 1, {}, [], new ArrayBuffer(4), new Float64Array(4), new Proxy({}, {})),
  fc.constantFrom<unknown>(-1, 0, 0.5, 24, 33, 128, 129, NaN, Infinity, 2 ** 53),
  fc.nat(64).map((length) => new Uint8Array(length)),
)

describe('a network interface', () => {
  it('is described by what the kernel knows of it', () => {
    expect(networkAddon().describeInterface('lo')).toEqual({ index: 1, isUp: expect.any(Boolean) as boolean, isEthernet: false, hardwareAddress: new Uint8Array(6) })
  })

  it.each(['absent', 'a-name-of-16-chr', 'x'.repeat(255)])('that is not there is named: %s', (name) => {
    expectCode(() => networkAddon().describeInterface(name), 'SYSTEM_CALL_FAILED', { interface: name, errnoName: 'ENODEV', call: 'SIOCGIFINDEX' })
  })
})

describe('in worker threads', () => {
  const path = join(process.env['BACKDOORS_ADDON_DIR'] ?? join(import.meta.dirname, '..', '..', 'build', 'Release'), 'network.node')
  const script = `
    const { parentPort, workerData } = require('node:worker_threads')
    const addon = require(workerData)
    addon.initialize((code, message) => Object.assign(new Error(message), { code }))
    let code
    try { addon.describeInterface('absent') } catch (error) { code = error.code }
    parentPort.postMessage([addon.describeInterface('lo').index, code])`

  it('each has errors of its own, and leaves the others theirs', async () => {
    const workers = Array.from({ length: 4 }, () => new Worker(script, { eval: true, workerData: path }))
    const ended = workers.map((worker) => once(worker, 'exit'))
    const told = await Promise.all(workers.map(async (worker) => ((await once(worker, 'message')) as [unknown])[0]))
    expect(told).toEqual(workers.map(() => [1, 'SYSTEM_CALL_FAILED']))
    expect((await Promise.all(ended)).flat()).toEqual([0, 0, 0, 0])
    expectCode(() => networkAddon().describeInterface('absent'), 'SYSTEM_CALL_FAILED', { interface: 'absent' })
  })
})

describe('addresses and frames', () => {
  it.each<[string, () => unknown, string]>([
    ['an address of 5 bytes', () => networkAddon().addAddress('lo', new Uint8Array(5), 24), 'address'],
    ['an address of none', () => networkAddon().removeAddress('lo', new Uint8Array(0), 24), 'address'],
    ['a prefix longer than the address', () => networkAddon().addAddress('lo', four, 33), 'prefixLength'],
    ['a prefix longer than any', () => networkAddon().addAddress('lo', new Uint8Array(16), 129), 'prefixLength'],
    ['a frame without a header', () => networkAddon().sendFrame('lo', new Uint8Array(13)), 'frame'],
    ['a frame longer than any', () => networkAddon().sendFrame('lo', new Uint8Array(65_537)), 'frame'],
  ])('are refused: %s', (_, call, field) => {
    expectCode(call, 'INVALID_ARGUMENT', { field })
  })

  it('may be anything at all: an error of ours, and never a crash', () => {
    const { describeInterface, addAddress, removeAddress, sendFrame } = networkAddon()
    fc.assert(fc.property(fc.constantFrom(describeInterface, addAddress, removeAddress, sendFrame), fc.array(anything, { maxLength: 4 }), (call, args) => {
      let thrown: unknown
      try {
        (call as (...some: unknown[]) => unknown)(...args)
      } catch (error) {
        thrown = error
      }
      // No interface of these names is there, so that nothing can succeed.
      expect(thrown).toBeInstanceOf(BackdoorsError)
      expect(['INVALID_ARGUMENT', 'SYSTEM_CALL_FAILED']).toContain((thrown as BackdoorsError).code)
    }), { numRuns: 2000 })
  })
})

describe('capabilities', () => {
  it('are read from the bits that the kernel shows', () => {
    const status = 'Name:\tnode\nCapPrm:\tffffffffffffffff\nCapEff:\t0000000000003000\nCapBnd:\tffffffffffffffff\n'
    expect([hasCapability(status, 'netAdmin'), hasCapability(status, 'netRaw'), hasCapability(status, 'ipcLock')]).toEqual([true, true, false])
    expect(hasCapability('', 'netAdmin')).toBe(false)
  })

  it('bear the kernel\'s names', () => {
    expect([capabilityName('netAdmin'), capabilityName('ipcLock')]).toEqual(['CAP_NET_ADMIN', 'CAP_IPC_LOCK'])
  })

  it('are missing or not', () => {
    expect(missingCapabilities([])).toEqual([])
    expect(['', 'netAdmin']).toContain(missingCapabilities(['netAdmin']).join())
  })
})
