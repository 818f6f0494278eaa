import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { encodeFrame, FrameDecoder, maxMessageBytes } from './framing.js'

function frames(decoder: FrameDecoder): string[] {
  const found: string[] = []
  for (let frame = decoder.next(); frame !== undefined; frame = decoder.next()) found.push(frame.toString())
  return found
}

/** Cuts bytes at the given places. */
function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const ends = [...places.map((place) => place % (bytes.length + 1)), bytes.length].sort((a, b) => a - b)
  return ends.map((end, index) => bytes.subarray(ends[index - 1] ?? 0, end))
}

describe('the frame decoder', () => {
  test('gives back what was framed, however the stream was cut', () => {
    fc.assert(
      fc.property(fc.array(fc.jsonValue(), { maxLength: 8 }), fc.array(fc.nat(), { maxLength: 20 }), (values, places) => {
        const decoder = new FrameDecoder()
        const found: string[] = []
        for (const piece of cut(Buffer.concat(values.map(encodeFrame)), places)) {
          decoder.push(piece)
          found.push(...frames(decoder))
        }
        expect(found).toEqual(values.map((value) => JSON.stringify(value)))
        expect(decoder.heldBytes).toBe(0)
      }),
    )
  })

  test('takes any bytes without more than a typed error, and never holds more than it was given', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 10 }), (pieces) => {
        const decoder = new FrameDecoder()
        let given = 0
        try {
          for (const piece of pieces) {
            decoder.push(Buffer.from(piece))
            given += piece.length
            frames(decoder)
            expect(decoder.heldBytes).toBeLessThanOrEqual(given)
          }
        } catch (error) {
          expect(error).toMatchObject({ code: expect.stringMatching(/^(MESSAGE_TOO_LARGE|PROTOCOL_ERROR)$/) as string })
        }
      }),
      { numRuns: 2000 },
    )
  })

  test('judges a length by its 4 bytes, before anything else has come', () => {
    const decoder = new FrameDecoder()
    for (const byte of [0, 1, 0]) decoder.push(Buffer.from([byte]))
    expect(decoder.next()).toBeUndefined()
    decoder.push(Buffer.from([1]))
    expect(() => decoder.next()).toThrow(expect.objectContaining({ code: 'MESSAGE_TOO_LARGE', details: { length: 65_537 } }) as Error)
  })

  test('takes the largest message there may be', () => {
    const text = 'x'.repeat(maxMessageBytes - 2)
    const decoder = new FrameDecoder()
    decoder.push(encodeFrame(text))
    expect(frames(decoder)).toEqual([JSON.stringify(text)])
  })
})

describe('what cannot be framed', () => {
  test('one byte too many', () => {
    expect(() => encodeFrame('x'.repeat(maxMessageBytes - 1))).toThrow(expect.objectContaining({ code: 'MESSAGE_TOO_LARGE' }) as Error)
  })

  test('what has no JSON form', () => {
    const circle: unknown[] = []
    circle.push(circle)
    for (const value of [1n, circle]) expect(() => encodeFrame(value)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }) as Error)
  })
})
