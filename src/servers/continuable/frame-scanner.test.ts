import { describe, expect, it } from 'vitest'
import { FrameScanner, type Whole } from './frame-scanner.js'
import { clientFrame } from './testing/client-frames.js'

function scan(bytes: Buffer, partBytes = bytes.length): { found: Whole[]; scanner: FrameScanner } {
  const found: Whole[] = []
  const scanner = new FrameScanner(1000)
  for (let at = 0; at < bytes.length; at += partBytes) scanner.scan(bytes.subarray(at, at + partBytes), (one) => found.push(one))
  return { found, scanner }
}

describe('messages and control frames', () => {
  it.each([1, 2, 3, 7, 1 << 20])('are found in parts of %i bytes', (partBytes) => {
    const frames = [clientFrame('text', ''), clientFrame('binary', Buffer.alloc(126)), clientFrame('text', 'a', false), clientFrame('ping', 'x'), clientFrame('continuation', 'b'), clientFrame('binary', Buffer.alloc(70_000)), clientFrame('pong', ''), clientFrame('close', '')]
    const ends: number[] = []
    for (const frame of frames) ends.push((ends.at(-1) ?? 1000) + frame.length)
    const { found, scanner } = scan(Buffer.concat([...frames, Buffer.from('anything')]), partBytes)
    expect(found).toEqual([
      { kind: 'message', from: 0, end: ends[0] }, { kind: 'message', from: 0, end: ends[1] }, { kind: 'ping', from: ends[2], end: ends[3] }, { kind: 'message', from: 0, end: ends[4] },
      { kind: 'message', from: 0, end: ends[5] }, { kind: 'pong', from: 0, end: ends[6] }, { kind: 'close', from: 0, end: ends[7] },
    ])
    expect([scanner.bad, scanner.closed]).toEqual([false, true])
  })

  it.each([
    ['no mask', [0x81, 0x01, 0x61]], ['a reserved bit', [0xc1, 0x80]], ['an opcode of nothing', [0x83, 0x80]], ['a continuation of nothing', [0x80, 0x80]],
    ['a message within another', [0x01, 0x80, 0, 0, 0, 0, 0x81, 0x80]], ['a control frame in parts', [0x09, 0x80]], ['a control frame that is too long', [0x89, 0xfe, 0, 126]],
    ['a close frame of one byte', [0x88, 0x81]], ['a length in more bytes than it needs', [0x82, 0xfe, 0, 125]], ['one in eight', [0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]], ['one past all numbers', [0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]],
  ])('are none with %s', (_, bytes) => {
    const { found, scanner } = scan(Buffer.from(bytes), 1)
    expect(scanner.bad).toBe(true)
    expect(found).toEqual([])
  })
})
