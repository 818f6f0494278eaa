import { describe, expect, it } from 'vitest'
import { audioAt, headerBytes, streamBytes } from './audio.js'

const seconds = 3
const whole = audioAt(0, Infinity, seconds)

describe('the music', () => {
  it('is as long as it says', () => {
    expect(whole.length).toBe(streamBytes(seconds))
    expect(whole.readUInt32LE(40)).toBe(whole.length - headerBytes)
    expect(whole.toString('latin1', 0, 4)).toBe('RIFF')
  })

  it('comes out the same from wherever it is begun', () => {
    for (const from of [0, 1, 43, 44, 45, 4043, 4044, 20_001]) {
      for (const length of [1, 2, 7, 5000]) expect(audioAt(from, length, seconds)).toEqual(whole.subarray(from, from + length))
    }
  })

  it('ends', () => {
    expect(audioAt(whole.length - 3, 10, seconds)).toEqual(whole.subarray(-3))
    expect(audioAt(whole.length, 10, seconds)).toHaveLength(0)
  })

  it('is not silence', () => {
    const samples = new Int16Array(whole.buffer.slice(whole.byteOffset + headerBytes, whole.byteOffset + whole.length))
    expect(new Set(samples).size).toBeGreaterThan(1000)
  })
})
