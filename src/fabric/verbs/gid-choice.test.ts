import { describe, expect, it } from 'vitest'
import { BackdoorsError } from '../../errors.js'
import type { GidEntry, PortAttributes } from '../../native/verbs.js'
import { chooseGid, gidAt, isIpv4Mapped, isLinkLocal } from './gid-choice.js'

const linkLocal = 'fe800000000000005054000099000001'
const ipv4 = '00000000000000000000ffff0a630001'
const ipv6 = '20010db8000000000000000000000001'

const portOf = (gids: readonly GidEntry[], linkLayer: PortAttributes['linkLayer'] = 'Ethernet'): PortAttributes => ({
  number: 1, state: 'PORT_ACTIVE', linkLayer, lid: 0, maxMtu: 4096, activeMtu: 1024, gids,
})
const entry = (index: number, gid: string, type: GidEntry['type'] = 'roce-v2'): GidEntry => ({ index, gid, type, netdev: 'eth0' })

describe('the choice of a GID', () => {
  const cases: readonly (readonly [what: string, gids: readonly GidEntry[], index: number])[] = [
    ['an IPv4 address before a link-local one', [entry(0, linkLocal), entry(1, ipv4)], 1],
    ['RoCE v2 before RoCE v1 of the same address', [entry(2, ipv4, 'roce-v1'), entry(3, ipv4)], 3],
    ['a routable version before a better address of the other', [entry(0, ipv4, 'roce-v1'), entry(1, linkLocal)], 1],
    ['a global IPv6 address before a link-local one', [entry(0, linkLocal), entry(1, ipv6)], 1],
    ['IPv4 before IPv6', [entry(0, ipv6), entry(1, ipv4)], 1],
    ['the first of equals', [entry(4, ipv4), entry(5, ipv4)], 4],
    ['what there is', [entry(0, linkLocal, 'roce-v1')], 0],
  ]
  it.each(cases)('takes %s', (_what, gids, index) => {
    const choice = chooseGid('rxe0', portOf(gids))
    expect(choice.entry.index).toBe(index)
    expect(choice.reason).not.toBe('')
  })

  it('says why', () => {
    expect(chooseGid('rxe0', portOf([entry(1, ipv4)])).reason).toBe('RoCE v2, which can be routed, not link-local, an IPv4 address')
  })

  it("takes the port's own on InfiniBand", () => {
    const own = entry(0, linkLocal, 'ib')
    expect(chooseGid('mlx5_0', portOf([entry(1, ipv4), own], 'InfiniBand')).entry).toBe(own)
  })

  it('fails with NO_USABLE_GID where there is none, and says what to do', () => {
    expect(() => chooseGid('rxe0', portOf([]))).toThrow(BackdoorsError)
    expect(() => chooseGid('rxe0', portOf([]))).toThrow(/ip link set/)
    expect(() => gidAt('rxe0', portOf([entry(1, ipv4)]), 2)).toThrow(expect.objectContaining({ code: 'NO_USABLE_GID' }) as Error)
  })
})

describe('kinds of addresses', () => {
  it('are told apart', () => {
    expect([isIpv4Mapped(ipv4), isIpv4Mapped(ipv6), isIpv4Mapped(linkLocal)]).toEqual([true, false, false])
    expect([linkLocal, 'febf0000000000000000000000000001', 'fec00000000000000000000000000001', ipv6].map(isLinkLocal)).toEqual([true, true, false, false])
  })
})
