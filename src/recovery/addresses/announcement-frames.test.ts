import { describe, expect, it } from 'vitest'
import { announcementFrames, gratuitousArp, unsolicitedNeighbourAdvertisement } from './announcement-frames.js'
import { parseInterfaceAddress } from './interface-address.js'

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const bytesOf = (text: string): Uint8Array => parseInterfaceAddress(text)!.bytes
const hardware = Uint8Array.of(0x02, 0x42, 0xac, 0x11, 0x00, 0x02)
const join = (...parts: string[]): string => parts.join('').replaceAll(' ', '')

describe('gratuitous ARP', () => {
  it('as a request asks everybody for its own address', () => {
    expect(hex(gratuitousArp('request', hardware, bytesOf('10.0.0.50/24')))).toBe(join(
      'ffffffffffff 0242ac110002 0806', // to all, from here, ARP
      '0001 0800 06 04 0001', // Ethernet, IPv4, lengths, request
      '0242ac110002 0a000032', // sender
      '000000000000 0a000032', // target: the same address, its hardware address unknown
    ))
  })

  it('as a reply tells everybody what nobody asked', () => {
    expect(hex(gratuitousArp('reply', hardware, bytesOf('10.0.0.50/24')))).toBe(join(
      'ffffffffffff 0242ac110002 0806',
      '0001 0800 06 04 0002',
      '0242ac110002 0a000032',
      'ffffffffffff 0a000032',
    ))
  })
})

describe('an unsolicited neighbour advertisement', () => {
  /*
   * By hand, in 16-bit words: source 2001 0db8 … 0050 gives 2e09; ff02::1 gives ff03; length 0020 and next header 003a;
   * the message 8800 0000 2000 0000, its target 2e09, its option 0201 0242 ac11 0002.
   * 2e09 + ff03 + 20 + 3a + 8800 + 2000 + 2e09 + 0201 + 0242 + ac11 + 2 = 2b3c5 → b3c5 + 2 = b3c7 → its complement 4c38.
   */
  it('goes to all nodes from the address itself, with the override flag and a checksum', () => {
    expect(hex(unsolicitedNeighbourAdvertisement(hardware, bytesOf('2001:db8::50/64'), false))).toBe(join(
      '333300000001 0242ac110002 86dd',
      '60000000 0020 3a ff', // version 6, 32 bytes of ICMPv6, hop limit 255
      '20010db8000000000000000000000050',
      'ff020000000000000000000000000001',
      '88 00 4c38 20000000', // neighbour advertisement, override
      '20010db8000000000000000000000050',
      '02 01 0242ac110002', // target link-layer address
    ))
  })

  it('says so where this machine forwards', () => {
    const frame = unsolicitedNeighbourAdvertisement(hardware, bytesOf('2001:db8::50/64'), true)
    // a000 in the stead of 2000: 2b3c5 + 8000 = 333c5 → 33c5 + 3 = 33c8 → its complement cc37.
    expect(hex(frame.subarray(54, 62))).toBe('8800cc37a0000000')
  })

  it('has a checksum under which the whole sums up to ffff, whatever the address', () => {
    for (const text of ['fe80::1/64', 'fd00:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128', '2001:db8:1:2:3:4:5:6/64']) {
      const frame = unsolicitedNeighbourAdvertisement(hardware, bytesOf(text), false)
      const view = new DataView(frame.buffer)
      let sum = 0x20 + 58
      for (let at = 22; at < frame.length; at += 2) sum += view.getUint16(at)
      while (sum > 0xffff) sum = (sum % 0x10000) + Math.floor(sum / 0x10000)
      expect(sum).toBe(0xffff)
    }
  })
})

describe('the frames that announce an address', () => {
  it('are both forms of ARP for IPv4, and one advertisement for IPv6', () => {
    const types = (text: string): string[] => announcementFrames(hardware, bytesOf(text), false).map((frame) => hex(frame.subarray(12, 14)))
    expect([types('10.0.0.50/24'), types('2001:db8::50/64')]).toEqual([['0806', '0806'], ['86dd']])
  })
})
