import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeText, encodeText } from './text.js'

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text)

describe('text', () => {
  it('is read only where it could have been written', () => {
    for (const wrong of ['', '\0', 'a\0b', 'ab\0', '\0ab']) {
      expect(encodeText(wrong, 64), JSON.stringify(wrong)).toBeUndefined()
      expect(decodeText(bytesOf(wrong), 0, bytesOf(wrong).length), JSON.stringify(wrong)).toBeUndefined()
    }
    for (const wrong of [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80]]) expect(decodeText(Uint8Array.from(wrong), 0, wrong.length)).toBeUndefined()
    expect(decodeText(bytesOf('abc'), 1, 3)).toBeUndefined()
    expect(decodeText(bytesOf('abc'), 1, -1)).toBeUndefined()
    expect(decodeText(bytesOf('a\0bc'), 2, 2)).toBe('bc')
  })

  it('that is read from any bytes gives the very same bytes when it is written again', () => {
    const letters = fc.uint8Array({ maxLength: 8 }).map((bytes) => bytes.map((byte, i) => (i % 3 === 0 ? byte : byte % 0x30)))
    fc.assert(
      fc.property(letters, (bytes) => {
        const text = decodeText(bytes, 0, bytes.length)
        if (text !== undefined) expect(encodeText(text, 8)).toEqual(bytes)
      }),
      { numRuns: 2000 },
    )
  })
})
