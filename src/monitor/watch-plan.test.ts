import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { watchedBy } from './watch-plan.js'

const anyNodes = fc.uniqueArray(fc.stringMatching(/^[a-z][a-z0-9]{0,4}$/), { minLength: 1, maxLength: 12 })
const anyNumber = fc.integer({ min: 0, max: 15 })

describe('who watches whom', () => {
  it('is the next nodes of the ring, in the order of their names', () => {
    expect(watchedBy('b', ['d', 'a', 'c', 'b'], 2)).toEqual(['c', 'd'])
    expect(watchedBy('d', ['d', 'a', 'c', 'b'], 2)).toEqual(['a', 'b'])
  })

  it('is nobody for a node that stands alone, or is not in the list', () => {
    expect(watchedBy('a', ['a'], 3)).toEqual([])
    expect(watchedBy('z', ['a', 'b'], 3)).toEqual([])
  })

  it('does not depend on the order of the list, nor on repetitions in it', () => {
    fc.assert(fc.property(anyNodes, anyNumber, fc.nat(), (nodes, k, turn) => {
      const start = turn % nodes.length
      const other = [...nodes.slice(start), ...nodes.slice(0, start), ...nodes].reverse()
      for (const node of nodes) expect(watchedBy(node, other, k)).toEqual(watchedBy(node, nodes, k))
    }))
  })

  it('gives every node the same work: k others, or all of them in a small cluster; never itself, never one twice', () => {
    fc.assert(fc.property(anyNodes, anyNumber, (nodes, k) => {
      for (const node of nodes) {
        const watched = watchedBy(node, nodes, k)
        expect(watched).toHaveLength(Math.min(k, nodes.length - 1))
        expect(new Set(watched).size).toBe(watched.length)
        expect(watched).not.toContain(node)
      }
    }))
  })

  it('gives every node as many watchers as it watches', () => {
    fc.assert(fc.property(anyNodes, anyNumber, (nodes, k) => {
      for (const node of nodes) {
        const watchers = nodes.filter((other) => watchedBy(other, nodes, k).includes(node))
        expect(watchers).toHaveLength(Math.min(k, nodes.length - 1))
      }
    }))
  })

  it('heals: when nodes are down, every other has k watchers that are up, or all of them', () => {
    fc.assert(fc.property(anyNodes, anyNumber, fc.infiniteStream(fc.boolean()), (nodes, k, draws) => {
      const down = new Set(nodes.filter(() => draws.next().value))
      const up = nodes.filter((node) => !down.has(node))
      for (const node of up) {
        // What a node has not looked at, it holds to be up: its plan settles by looking at what it has come to watch.
        let known = new Set<string>()
        for (let watched = watchedBy(node, nodes, k); watched.some((other) => down.has(other) && !known.has(other)); watched = watchedBy(node, nodes, k, (other) => known.has(other))) known = new Set([...known, ...watched.filter((other) => down.has(other))])
        expect(watchedBy(node, nodes, k, (other) => known.has(other))).toEqual(watchedBy(node, nodes, k, (other) => down.has(other)))
      }
      for (const node of up) expect(up.filter((other) => watchedBy(other, nodes, k, (one) => down.has(one)).includes(node))).toHaveLength(Math.min(k, up.length - 1))
    }))
  })

  it('goes on watching who is down, to see it come back', () => {
    expect(watchedBy('a', ['a', 'b', 'c', 'd', 'e'], 2, (node) => node === 'b' || node === 'd')).toEqual(['b', 'c', 'd', 'e'])
    expect(watchedBy('a', ['a', 'b', 'c'], 0, () => true)).toEqual([])
  })

  it('leaves most as it was when a node joins: nobody gains more than one to watch', () => {
    fc.assert(fc.property(anyNodes, fc.integer({ min: 0, max: 4 }), fc.constantFrom('0new', 'mnew', 'znew'), (nodes, k, joining) => {
      for (const node of nodes) {
        const before = watchedBy(node, nodes, k)
        const gained = watchedBy(node, [...nodes, joining], k).filter((other) => !before.includes(other))
        expect(gained.length).toBeLessThanOrEqual(1)
      }
    }))
  })
})
