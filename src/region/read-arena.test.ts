import { describe, expect, it } from 'vitest'
import { ReadArena } from './read-arena.js'

describe('ReadArena', () => {
  it('gives pieces that do not overlap, and the same memory again once it is reset', () => {
    const arena = new ReadArena()
    const [first, second] = [arena.take(1000, 3000), arena.take(2000, 2000)]
    expect([first.length, second.length, first.buffer === second.buffer]).toEqual([1000, 2000, true])
    expect(second.byteOffset).toBe(first.byteOffset + 1000)
    arena.reset()
    expect(arena.take(3000, 3000)).toMatchObject({ buffer: first.buffer, byteOffset: first.byteOffset })
  })

  it('takes more where what it has is used up, and gives what is beyond 64 MiB back', () => {
    const arena = new ReadArena()
    const [small, large] = [arena.take(1000, 1000), arena.take(65 << 20, 65 << 20)]
    expect(large.length).toBe(65 << 20)
    arena.reset()
    expect(arena.take(1000, 1000).buffer).toBe(small.buffer)
    expect(arena.take(1000, 1000).buffer).not.toBe(large.buffer)
  })
})
