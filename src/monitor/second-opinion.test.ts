import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isSeenStopped, mayFenceUnreachable, refineUnreachable, sights, type Opinion } from './second-opinion.js'
import type { NodeVerdict } from './verdict.js'

const verdict: NodeVerdict = { kind: 'unreachable', seen: 'reads fail (WC_RETRY_EXC_ERR)' }
const says = (by: string, sees: Opinion['sees'], more: Partial<Opinion> = {}): Opinion => ({ by, sees, ...more })

describe('a node that does not answer here', () => {
  it('but is read by another has its link cut, and the evidence says who reads it', () => {
    expect(refineUnreachable(verdict, [says('c', 'sees-alive', { verdict: 'alive' }), says('d', 'sees-unreachable')])).toEqual({
      kind: 'link-cut', seen: 'reads fail (WC_RETRY_EXC_ERR) from here, but c still reaches it',
    })
    expect(refineUnreachable(verdict, [says('c', 'sees-alive', { verdict: 'os-stalled' }), says('d', 'sees-alive')]).seen).toContain('c (os-stalled), d still reach it')
  })

  it('nor anywhere else is unreachable, and the evidence says who agrees', () => {
    expect(refineUnreachable(verdict, [says('c', 'sees-unreachable'), says('d', 'no-answer')])).toEqual({
      kind: 'unreachable', seen: 'reads fail (WC_RETRY_EXC_ERR); c cannot reach it either',
    })
  })

  it('and of which nobody else can say anything is unreachable from here alone', () => {
    expect(refineUnreachable(verdict, []).seen).toContain('from here alone: there was nobody to ask')
    for (const sees of ['does-not-watch', 'undecided', 'no-answer'] as const) {
      expect(refineUnreachable(verdict, [says('c', sees)])).toMatchObject({ kind: 'unreachable', seen: expect.stringContaining('nobody else could say') as string })
    }
  })
})

describe('whether it is seen to have stopped', () => {
  it.each<[string, Opinion[], boolean]>([
    ['one reads it, and says so', [says('c', 'sees-alive', { verdict: 'os-stalled' })], true],
    ['one of several does', [says('c', 'sees-alive', { verdict: 'alive' }), says('d', 'sees-alive', { verdict: 'os-panicked' })], true],
    ['who reads it says that it is well', [says('c', 'sees-alive', { verdict: 'alive' })], false],
    ['its daemon alone has stopped', [says('c', 'sees-alive', { verdict: 'daemon-stalled' })], false],
    ['who had said so does not reach it any more', [says('c', 'sees-unreachable', { verdict: 'os-stalled' })], false],
    ['nobody answers', [says('c', 'no-answer')], false],
  ])('%s', (_, opinions, expected) => {
    expect(isSeenStopped(opinions)).toBe(expected)
  })
})

describe('whether it may be fenced from outside', () => {
  it.each<[string, Opinion[], number | undefined, boolean]>([
    ['another agrees', [says('c', 'sees-unreachable')], 2, true],
    ['another agrees, and one does not answer', [says('c', 'sees-unreachable'), says('d', 'no-answer')], 2, true],
    ['there is no other', [], 0, true],
    ['there is no other that is known, but not all are known', [], undefined, false],
    ['another agrees, though not all are known', [says('c', 'sees-unreachable')], undefined, true],
    ['nobody could be asked', [], 1, false],
    ['nobody answers: this node may be the one cut off', [says('c', 'no-answer')], 1, false],
    ['who answers does not know', [says('c', 'does-not-watch'), says('d', 'undecided')], 2, false],
    ['another agrees, but knows of one that sees it', [says('c', 'sees-unreachable', { verdict: 'link-cut' }), says('d', 'sees-unreachable')], 3, false],
    ['one sees it, whoever agrees', [says('c', 'sees-unreachable'), says('d', 'sees-alive')], 2, false],
  ])('%s', (_, opinions, others, expected) => {
    expect(mayFenceUnreachable(opinions, others)).toBe(expected)
  })

  const anyOpinions = fc.array(fc.record({ by: fc.string(), sees: fc.constantFrom<Opinion['sees']>(...sights, 'no-answer') }), { maxLength: 6 })

  it('is never so for a cut link, and never on this node\'s word alone where there are others', () => {
    fc.assert(fc.property(anyOpinions, fc.nat({ max: 5 }), (opinions, others) => {
      if (!mayFenceUnreachable(opinions, others)) return
      expect(refineUnreachable(verdict, opinions).kind).toBe('unreachable')
      expect(others === 0 || opinions.some(({ sees }) => sees === 'sees-unreachable')).toBe(true)
    }))
  })

  it('asking changes nothing but kind and words of a verdict', () => {
    fc.assert(fc.property(anyOpinions, (opinions) => {
      const refined = refineUnreachable(verdict, opinions)
      expect(refined.kind).toBe(opinions.some(({ sees }) => sees === 'sees-alive') ? 'link-cut' : 'unreachable')
      expect(refined.seen).toContain(verdict.seen)
    }))
  })
})
