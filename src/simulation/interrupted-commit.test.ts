import { describe, expect, it } from 'vitest'
import { interruptCommit } from './interrupted-commit.js'

const heapInBox = 32

/** A box of which a commit changes the heap, and then the index before it. */
function interrupted(share: number): { box: Uint8Array; finish: () => void } {
  const box = new Uint8Array(64)
  const finish = interruptCommit(box, heapInBox, share, () => {
    box.fill(1, 40, 56)
    box.fill(2, 8, 16)
  })
  return { box, finish }
}

const touched = (box: Uint8Array): number[] => [...box.keys()].filter((at) => at % 8 === 0 && box[at] !== 0)

describe('a commit that stops in the middle', () => {
  it('has written nothing, a part of the heap, or all but the index', () => {
    expect(touched(interrupted(0).box)).toEqual([])
    expect(touched(interrupted(0.4).box)).toEqual([40])
    expect(touched(interrupted(0.9).box)).toEqual([40, 48])
  })

  it('is whole when it has gone on', () => {
    const { box, finish } = interrupted(0.4)
    finish()
    expect(touched(box)).toEqual([8, 40, 48])
  })
})
