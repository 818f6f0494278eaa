import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { BackdoorsError } from '../../src/errors.js'
import { expectThrow } from '../../src/fabric/testing/memory-fixture.js'
import { RcEndpoint } from '../../src/fabric/verbs/rc-endpoint.js'
import type { QueuePairSettings, VerbsDevice } from '../../src/fabric/verbs/index.js'
import { verbsAddon } from '../../src/native/load.js'
import type { QueuePairConnection } from '../../src/native/verbs.js'
import { needsDevice, openDevice } from '../players.js'

needsDevice()

let device: VerbsDevice
const made: RcEndpoint[] = []
beforeEach(() => {
  device = openDevice()
})
afterEach(() => {
  for (const endpoint of made.splice(0)) endpoint.close()
  device.close()
})

function make(settings: QueuePairSettings = {}): RcEndpoint {
  const endpoint = new RcEndpoint(device, { ...settings, peer: 'other', access: 0 })
  made.push(endpoint)
  return endpoint
}

function thrownBy(call: () => unknown): BackdoorsError {
  try {
    call()
  } catch (error) {
    return error as BackdoorsError
  }
  throw new Error('nothing was thrown')
}

describe('a queue pair', () => {
  it('goes from INIT to RTS when it is connected, and is gone when it is closed', () => {
    const [one, other] = [make(), make()]
    expect(one.queuePair.state).toBe('INIT')
    one.connect(other.local)
    expect(one.queuePair.state).toBe('RTS')
    one.close()
    expect(one.queuePair.state).toBe('RESET')
  })

  it('has a number of its own, and a random first sequence number', () => {
    const endpoints = [make(), make(), make()]
    expect(new Set(endpoints.map(({ local }) => local.qpn)).size).toBe(3)
    expect(new Set(endpoints.map(({ local }) => local.psn)).size).toBeGreaterThan(1)
  })

  it('cannot be connected twice', () => {
    const [one, other] = [make(), make()]
    one.connect(other.local)
    expectThrow(() => one.connect(other.local), 'QP_TRANSITION', { peer: 'other' })
  })

  it('tells the lesser of what both ends can do to each', () => {
    const [one, other] = [make({ maxRdAtomic: 4 }), make({ maxRdAtomic: 8 })]
    expect([one.local.maxRdAtomic, other.local.maxRdAtomic]).toEqual([4, 8])
    one.connect(other.local)
    other.connect(one.local)
    expect(other.queuePair.state).toBe('RTS')
  })
})

describe('an attribute that is not allowed is named', () => {
  const atInit: readonly (readonly [setting: QueuePairSettings, attribute: string])[] = [[{ pkeyIndex: 40_000 }, 'pkey_index']]
  it.each(atInit)('at INIT: %o', (settings, attribute) => {
    const error = thrownBy(() => make(settings))
    expect(error).toMatchObject({ code: 'QP_TRANSITION', details: { peer: 'other' } })
    expect(error.message).toContain(`RESET to INIT: ${attribute} is`)
  })

  const remote = (): QueuePairConnection => ({ ...make().local })
  const atReadyToReceive: readonly (readonly [change: Partial<QueuePairConnection>, attribute: string])[] = [
    [{ mtu: 1000 }, 'path_mtu'],
    [{ mtu: 8192 }, 'path_mtu'],
    [{ qpn: 2 ** 24 }, 'dest_qp_num'],
    [{ qpn: 1 }, 'dest_qp_num'],
    [{ psn: 2 ** 24 }, 'rq_psn'],
    [{ maxDestRdAtomic: 0 }, 'max_dest_rd_atomic'],
    [{ maxDestRdAtomic: 255 }, 'max_dest_rd_atomic'],
  ]
  it.each(atReadyToReceive)('at RTR: %o', (change, attribute) => {
    const error = thrownBy(() => make().queuePair.connect({ ...remote(), ...change }))
    expect(error).toMatchObject({ code: 'QP_TRANSITION' })
    expect(error.message).toContain(`INIT to RTR: ${attribute} is`)
  })

  it('at RTR: min_rnr_timer', () => {
    const error = thrownBy(() => make({ minRnrTimer: 32 }).queuePair.connect(remote()))
    expect(error.message).toContain('INIT to RTR: min_rnr_timer is 32, but may be 0 to 31')
  })

  const atReadyToSend: readonly (readonly [setting: QueuePairSettings, attribute: string])[] = [
    [{ timeout: 32 }, 'timeout'],
    [{ retryCount: 8 }, 'retry_cnt'],
    [{ rnrRetry: 8 }, 'rnr_retry'],
  ]
  it.each(atReadyToSend)('at RTS: %o', (settings, attribute) => {
    const error = thrownBy(() => make(settings).queuePair.connect(remote()))
    expect(error.message).toContain(`RTR to RTS: ${attribute} is`)
  })

  it('a GID that nobody has ends in QP_TRANSITION or is found out by the first read', () => {
    // 192.0.2.1 is reserved for documentation: no host has it.
    const elsewhere = { ...make().local, gid: '00000000000000000000ffffc0000201' }
    const endpoint = make()
    try {
      endpoint.connect(elsewhere)
      expect(endpoint.queuePair.state).toBe('RTS')
    } catch (error) {
      expect(error).toMatchObject({ code: 'QP_TRANSITION', details: { call: 'ibv_modify_qp' } })
    }
  })
})

describe('arguments', () => {
  it('of the wrong kind are refused before anything is made', () => {
    const { ProtectionDomain, CompletionQueue, QueuePair, MemoryRegion, WorkBatch } = verbsAddon()
    const wrong = {} as never
    expectThrow(() => new ProtectionDomain(wrong), 'INVALID_ARGUMENT', { field: 'context' })
    expectThrow(() => new CompletionQueue(device.context, 0), 'INVALID_ARGUMENT', { field: 'depth' })
    expectThrow(() => new QueuePair(device.domain, wrong, wrong), 'INVALID_ARGUMENT', { field: 'queue' })
    expectThrow(() => new MemoryRegion(device.domain, {}), 'INVALID_ARGUMENT', { field: 'length' })
    expectThrow(() => new MemoryRegion(device.domain, { memory: wrong }), 'INVALID_ARGUMENT', { field: 'memory' })
    expectThrow(() => new MemoryRegion(device.domain, { length: 64, access: 2 }), 'INVALID_ARGUMENT', { field: 'access' })
    expectThrow(() => new WorkBatch(wrong, wrong, 1, 1), 'INVALID_ARGUMENT', { field: 'queuePair' })
  })
})
