import { describe, expect, it } from 'vitest'
import { watchPicture } from './watch-picture.js'

const peers = ['b', 'c', 'd'].map((name) => ({ name }))

describe('the picture of who watches whom', () => {
  it('has every node watch the next ones, and the daemon itself whom it watches in truth', () => {
    expect(watchPicture('a', peers, ['b'], 2, () => false)).toEqual([
      { node: 'a', watches: ['b'] },
      { node: 'b', watches: ['c', 'd'] },
      { node: 'c', watches: ['d', 'a'] },
      { node: 'd', watches: ['a', 'b'] },
    ])
  })

  it('has nobody watched by who is down, and the others watch beyond it', () => {
    expect(watchPicture('a', peers, ['b', 'c'], 1, (peer) => peer === 'b')).toEqual([
      { node: 'a', watches: ['b', 'c'] },
      { node: 'b', watches: [] },
      { node: 'c', watches: ['d'] },
      { node: 'd', watches: ['a'] },
    ])
  })

  it('names the lender of a machine that is watched through another, and watches nobody', () => {
    expect(watchPicture('a', [{ name: 'b' }, { name: 'vm', through: 'b' }], ['b', 'vm'], 1, () => false)).toEqual([
      { node: 'a', watches: ['b', 'vm'] },
      { node: 'b', watches: ['vm', 'a'] },
      { node: 'vm', watches: [], through: 'b' },
    ])
  })

  it('is one node alone where there are no peers', () => {
    expect(watchPicture('a', [], [], 2, () => false)).toEqual([{ node: 'a', watches: [] }])
  })
})
