import { describe, expect, it } from 'vitest'
import { BackdoorsError } from '../../errors.js'
import type { NetworkInterface } from '../../native/network.js'
import { AddressKeeper, repeatAfterMs, type AddressKeeperOptions, type VirtualAddress } from './address-keeper.js'
import { parseInterfaceAddress } from './interface-address.js'

const of = (node: string, text: string, name = 'eth0'): VirtualAddress => ({ node, address: parseInterfaceAddress(text)!, interface: name, failback: true })
const ethernet: NetworkInterface = { index: 2, isUp: true, isEthernet: true, hardwareAddress: Uint8Array.of(2, 0, 0, 0, 0, 1) }
const refused = (errnoName: string): BackdoorsError => new BackdoorsError('SYSTEM_CALL_FAILED', `refused: ${errnoName}`, { errnoName, call: 'RTM_NEWADDR' })

/** A machine that writes down what is asked of it. */
function made(addresses: readonly VirtualAddress[], options: Partial<AddressKeeperOptions['network']> & { isRouter?: boolean } = {}) {
  const calls: string[] = []
  const trouble: unknown[] = []
  const waiting: { ms: number; run: () => void; calledOff: boolean }[] = []
  const name = (verb: string, at: string, bytes: Uint8Array, prefix?: number): number => calls.push(`${verb} ${at} ${[...bytes].join('.')}${prefix === undefined ? '' : `/${prefix}`}`)
  const keeper = new AddressKeeper({
    addresses,
    network: {
      describeInterface: () => ethernet,
      addAddress: (at, bytes, prefix) => name('add', at, bytes, prefix) > 0,
      removeAddress: (at, bytes, prefix) => name('remove', at, bytes, prefix) > 0,
      sendFrame: (at, frame) => void name('send', at, frame.subarray(12, 14)),
      ...options,
    },
    isRouter: () => options.isRouter ?? false,
    later: (ms, run) => {
      const timer = { ms, run, calledOff: false }
      waiting.push(timer)
      return () => void (timer.calledOff = true)
    },
    onTrouble: (_, error) => void trouble.push(error),
  })
  return { keeper, calls, trouble, waiting }
}

const codeOf = (run: () => unknown): unknown => {
  try {
    run()
  } catch (error) {
    return error
  }
  throw new Error('nothing was thrown')
}

describe('taking addresses', () => {
  it('adds each before it announces it, and announces it again at the times of the standard', () => {
    const { keeper, calls, waiting } = made([of('a', '10.0.0.50/24'), of('c', '10.0.0.51/24')])
    keeper.take('a')
    expect(calls).toEqual(['add eth0 10.0.0.50/24', 'send eth0 8.6', 'send eth0 8.6'])
    expect(waiting.map(({ ms }) => ms)).toEqual(repeatAfterMs)
    waiting[0]?.run()
    expect(calls.slice(3)).toEqual(['send eth0 8.6', 'send eth0 8.6'])
  })

  it('announces nothing on an interface without neighbours', () => {
    const { keeper, calls } = made([of('a', '10.0.0.50/32', 'lo')], { describeInterface: () => ({ ...ethernet, isEthernet: false }) })
    keeper.take('a')
    expect(calls).toEqual(['add lo 10.0.0.50/32'])
  })

  it('may be for some of a node\'s only, as may giving them up', () => {
    const { keeper, calls } = made([of('a', '10.0.0.50/24', 'lo'), { ...of('a', '10.0.0.51/24', 'lo'), failback: false }], { sendFrame: () => undefined })
    expect(keeper.take('a', ({ failback }) => !failback)).toHaveLength(1)
    expect(keeper.release('a', ({ failback }) => failback)).toHaveLength(1)
    // Together with the first of a prefix, the kernel may have removed the others.
    expect(calls).toEqual(['add lo 10.0.0.51/24', 'remove lo 10.0.0.50/24', 'add lo 10.0.0.51/24'])
  })

  it('of a node that has none is nothing', () => {
    const { keeper, calls } = made([of('a', '10.0.0.50/24')])
    expect([keeper.take('b'), calls]).toEqual([[], []])
  })

  it('takes the others where one fails, and then fails with that one', () => {
    const added: string[] = []
    const { keeper } = made([of('a', '10.0.0.50/24', 'eth7'), of('a', '10.0.0.51/24')], {
      addAddress: (name) => {
        if (name === 'eth7') throw refused('EPERM')
        return added.push(name) > 0
      },
    })
    expect(codeOf(() => keeper.take('a'))).toMatchObject({
      code: 'ANNOUNCE_FAILED', message: 'The address 10.0.0.50/24 of a could not be taken on eth7: refused: EPERM', details: { peer: 'a', interface: 'eth7', errnoName: 'EPERM', call: 'RTM_NEWADDR' },
    })
    expect(added).toEqual(['eth0'])
  })

  it('fails where the first announcement does, and only tells where a repeated one does', () => {
    let isUp = false
    const { keeper, trouble, waiting } = made([of('a', '10.0.0.50/24')], {
      sendFrame: () => {
        if (!isUp) throw refused('ENETDOWN')
      },
    })
    expect(codeOf(() => keeper.take('a'))).toMatchObject({ code: 'ANNOUNCE_FAILED', details: { errnoName: 'ENETDOWN' } })
    isUp = true
    keeper.take('a')
    isUp = false
    waiting.at(-1)?.run()
    expect(trouble).toMatchObject([{ details: { errnoName: 'ENETDOWN' } }])
  })

  it('anew calls the repeats of the first time off', () => {
    const { keeper, waiting } = made([of('a', '10.0.0.50/24')])
    keeper.take('a')
    keeper.take('a')
    expect(waiting.map(({ calledOff }) => calledOff)).toEqual([true, true, false, false])
  })
})

describe('giving addresses up', () => {
  it('calls the repeats off', () => {
    const { keeper, waiting } = made([of('a', '10.0.0.50/24')])
    keeper.take('a')
    keeper.release('a')
    expect(waiting.every(({ calledOff }) => calledOff)).toBe(true)
  })

  it('goes as far as it can, and tells what failed', () => {
    const { keeper, trouble } = made([of('a', '10.0.0.50/24', 'eth7'), of('c', '10.0.0.51/24', 'gone'), of('d', '10.0.0.52/24')], {
      removeAddress: (name) => {
        if (name === 'eth7') throw refused('EPERM')
        if (name === 'gone') throw refused('ENODEV')
        return true
      },
    })
    expect(keeper.releaseAll().map(({ node }) => node)).toEqual(['d'])
    expect(trouble).toMatchObject([{ details: { errnoName: 'EPERM' } }])
  })
})
