import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { announcementFrames } from './announcement-frames.js'
import { claimIn, probeFrame } from './probe-frames.js'

const hardware = Uint8Array.of(2, 0, 0, 0, 0, 10)
const four = Uint8Array.of(10, 9, 0, 50)
const six = Uint8Array.of(0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x02, 0x50)
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

describe('a question whose an address is', () => {
  it('is an ARP probe for IPv4, from nobody', () => {
    expect(hex(probeFrame(hardware, four))).toBe(`ffffffffffff02000000000a0806000108000604000102000000000a00000000${'00'.repeat(6)}0a090032`)
  })

  it('is a neighbour solicitation for IPv6, from nobody to those who may have it', () => {
    const group = 'ff0200000000000000000001ff010250'
    expect(hex(probeFrame(hardware, six))).toMatch(new RegExp(`^3333ff01025002000000000a86dd6000000000183aff${'00'.repeat(16)}${group}8700[0-9a-f]{4}00000000${hex(six)}$`))
  })

  it('claims nothing itself', () => {
    expect([claimIn(probeFrame(hardware, four)), claimIn(probeFrame(hardware, six))]).toEqual([undefined, undefined])
  })
})

describe('an answer', () => {
  it.each([four, six])('says whose the address is', (address) => {
    for (const frame of announcementFrames(hardware, address, false)) expect(claimIn(frame)).toEqual({ address, hardware })
  })

  it('without its option is from who sent it', () => {
    const [frame] = announcementFrames(hardware, six, false) as [Uint8Array]
    expect(claimIn(frame.subarray(0, 78))).toEqual({ address: six, hardware })
  })

  it('may be anything at all', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 128 }), (frame) => {
      const claim = claimIn(frame)
      if (claim) expect([[4, 16].includes(claim.address.length), claim.hardware.length]).toEqual([true, 6])
    }))
  })
})
