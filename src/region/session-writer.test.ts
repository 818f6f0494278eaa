import { describe, expect, it } from 'vitest'
import { BackdoorsError } from '../errors.js'
import { indexEntry } from './layout.js'
import type { SessionWriter } from './session-writer.js'
import { codeOf } from './testing/code-of.js'
import { heldBy, openWriter, payloadOf, readAll, tinyGeometry, tinyRegion } from './testing/writer-box.js'

const plain = { ttlMs: 0, schemaVersion: 1 }

function setUp(geometry = tinyGeometry, nowMs = (): number => 1000) {
  const { bytes, header } = tinyRegion(geometry)
  const writer = openWriter(bytes, header, { nowMs })
  return { bytes, header, writer, carts: writer.store('carts') }
}

const fill = (writer: SessionWriter, length: number): string[] => {
  const ids: string[] = []
  for (let i = 0; ; i++) {
    const code = codeOf(() => writer.commit(writer.store('carts'), `u-${i}`, payloadOf(`u-${i}`, 1, length), plain))
    if (code !== undefined) {
      expect(code).toBe('BOX_FULL')
      return ids
    }
    ids.push(`u-${i}`)
  }
}

describe('a commit', () => {
  it('is found by its writer and by a reader, with all that belongs to it', async () => {
    const { bytes, header, writer, carts } = setUp(tinyGeometry, () => 123_456_789_012.7)
    const origin = { node: 'dead', incarnation: 2n ** 63n + 1n, box: 4, sequence: 2 ** 40 + 1 }
    const payload = payloadOf('u-1', 1, 100)
    writer.commit(carts, 'u-1', payload, { ttlMs: 60_000, schemaVersion: 7, origin })
    const expected = { store: 'carts', id: 'u-1', sequence: 1, schemaVersion: 7, committedAtMs: 123_456_789_012, ttlMs: 60_000, origin, payload }
    expect(writer.get(carts, 'u-1')).toEqual(expected)
    const found = (await readAll(bytes, header)).get('u-1')
    for (const [name, value] of Object.entries({ ...expected, remainingMs: 60_000, stale: false })) expect(found?.[name as keyof typeof found], name).toEqual(value)
  })

  it('replaces the one before, in turns between two slots', async () => {
    const { bytes, header, writer, carts } = setUp()
    for (let commit = 1; commit <= 5; commit++) {
      const payload = payloadOf('u-1', commit, 50 + commit)
      writer.commit(carts, 'u-1', payload, plain)
      const found = (await readAll(bytes, header)).get('u-1')
      expect(found).toMatchObject({ sequence: commit, payload, stale: false })
    }
    expect(writer.size).toBe(1)
  })

  it('leaves what was got before as it was, until the next commit but one', () => {
    const { writer, carts } = setUp()
    writer.commit(carts, 'u-1', payloadOf('u-1', 1, 80), plain)
    const got = writer.get(carts, 'u-1')?.payload
    writer.commit(carts, 'u-1', payloadOf('u-1', 2, 80), plain)
    expect(got).toEqual(payloadOf('u-1', 1, 80))
  })

  it('keeps stores apart that hold the same id', async () => {
    const { writer, carts } = setUp()
    const users = writer.store('users')
    writer.commit(carts, 'x', payloadOf('x', 1, 10), plain)
    writer.commit(users, 'x', payloadOf('x', 2, 20), plain)
    expect(writer.get(carts, 'x')?.payload).toEqual(payloadOf('x', 1, 10))
    expect(writer.get(users, 'x')?.payload).toEqual(payloadOf('x', 2, 20))
    expect(writer.store('users')).toBe(users)
    writer.delete(carts, 'x')
    expect([writer.size, writer.get(users, 'x')?.store]).toEqual([1, 'users'])
  })

  it('keeps its origin over later commits, until it is given another', () => {
    const { writer, carts } = setUp()
    const origin = { node: 'dead', incarnation: 1n, box: 2, sequence: 3 }
    writer.commit(carts, 'x', payloadOf('x', 1, 10), { ...plain, origin })
    for (let commit = 2; commit < 5; commit++) writer.commit(carts, 'x', payloadOf('x', commit, 10 * commit), plain)
    expect(writer.get(carts, 'x')?.origin).toEqual(origin)
    writer.commit(carts, 'x', payloadOf('x', 9, 10), { ...plain, origin: { ...origin, node: 'a-longer-name', sequence: 4 } })
    expect(writer.get(carts, 'x')).toMatchObject({ origin: { node: 'a-longer-name', sequence: 4 }, payload: payloadOf('x', 9, 10) })
  })

  it('takes sizes from nothing to more than a mebibyte', async () => {
    const { bytes, header, writer, carts } = setUp({ boxCount: 2, sensorsPerBox: 1, sessionsPerBox: 16, heapBytes: 16 << 20 })
    const sizes = [0, 1, 10, 63, 64, 65, 1000, 4096, 65_536, (1 << 20) - 1, 1 << 20, (1 << 20) + 4097]
    for (const commit of [1, 2, 3]) for (const size of sizes) writer.commit(carts, `s-${size}`, payloadOf('s', commit, size), plain)
    const found = await readAll(bytes, header)
    for (const size of sizes) {
      expect(Buffer.compare(found.get(`s-${size}`)?.payload as Uint8Array, payloadOf('s', 3, size))).toBe(0)
      expect(Buffer.compare(writer.get(carts, `s-${size}`)?.payload as Uint8Array, payloadOf('s', 3, size))).toBe(0)
    }
  })

  it('grows and shrinks through many sizes without using the box up', () => {
    const { writer, carts } = setUp()
    for (let commit = 1; commit <= 2000; commit++) {
      const length = (commit * 7919) % 700
      writer.commit(carts, `u-${commit % 2}`, payloadOf('u', commit, length), plain)
      expect(writer.get(carts, `u-${commit % 2}`)?.payload).toEqual(payloadOf('u', commit, length))
    }
  })

  it('takes ids of any text, and gives back the very same', async () => {
    const { bytes, header, writer, carts } = setUp({ ...tinyGeometry, sessionsPerBox: 16, heapBytes: 65_536 })
    const ids = ['a', '\ufeffa', 'ü'.repeat(512), '🙂', ' ', '../../etc/passwd', '__proto__', 'x'.repeat(1024)]
    for (const id of ids) writer.commit(carts, id, payloadOf(id, 1, 10), plain)
    expect([...(await readAll(bytes, header)).keys()].sort()).toEqual([...ids].sort())
    expect([...heldBy(openWriter(bytes, header)).keys()].sort()).toEqual([...ids].sort())
  })

  it('refuses an id that is none, and changes nothing', () => {
    const { bytes, writer, carts } = setUp()
    const before = bytes.slice()
    for (const id of ['', 'x'.repeat(1025), 'ü'.repeat(513), 'a\0b', '\ud800']) {
      expect(codeOf(() => writer.commit(carts, id, new Uint8Array(1), plain)), JSON.stringify(id)).toBe('SESSION_ID_INVALID')
    }
    expect(Buffer.compare(bytes, before)).toBe(0)
    expect(codeOf(() => writer.store('x'.repeat(65)))).toBe('INVALID_ARGUMENT')
  })

  it('refuses numbers that a record has no room for, and changes nothing', () => {
    const { bytes, writer, carts } = setUp()
    const before = bytes.slice()
    for (const field of ['ttlMs', 'schemaVersion'] as const) {
      for (const wrong of [-1, 0.5, 2 ** 32, NaN, Infinity]) {
        expect(codeOf(() => writer.commit(carts, 'u', new Uint8Array(1), { ...plain, [field]: wrong })), `${field} ${wrong}`).toBe('INVALID_ARGUMENT')
      }
    }
    expect(Buffer.compare(bytes, before)).toBe(0)
    expect(writer.size).toBe(0)
  })

  it('is refused by a fence before it writes, and not acknowledged by one that comes while it writes', () => {
    const { bytes, header } = tinyRegion()
    let checks = 0
    let fencedAt = Infinity
    const writer = openWriter(bytes, header, {
      checkFence: () => {
        if (++checks >= fencedAt) throw new BackdoorsError('FENCED', 'fenced')
      },
    })
    const carts = writer.store('carts')
    writer.commit(carts, 'u', payloadOf('u', 1, 10), plain)
    expect(checks).toBe(2)
    fencedAt = checks + 2
    expect(codeOf(() => writer.commit(carts, 'u', payloadOf('u', 2, 10), plain))).toBe('FENCED')
    const before = bytes.slice()
    expect(codeOf(() => writer.commit(carts, 'u', payloadOf('u', 3, 10), plain))).toBe('FENCED')
    expect(codeOf(() => writer.delete(carts, 'u'))).toBe('FENCED')
    expect(Buffer.compare(bytes, before)).toBe(0)
  })
})

describe('a full box', () => {
  it('is BOX_FULL where its entries are taken, and loses nothing', async () => {
    const { bytes, header, writer } = setUp({ ...tinyGeometry, heapBytes: 1 << 16 })
    expect(fill(writer, 10)).toHaveLength(tinyGeometry.sessionsPerBox)
    expect((await readAll(bytes, header)).size).toBe(tinyGeometry.sessionsPerBox)
  })

  it('is BOX_FULL where its heap is taken, and loses nothing', async () => {
    const { bytes, header, writer } = setUp()
    const ids = fill(writer, 900)
    expect(ids).toHaveLength(4)
    const found = await readAll(bytes, header)
    for (const id of ids) expect(found.get(id)?.payload).toEqual(payloadOf(id, 1, 900))
  })

  it('goes on taking commits of the size that a session has, where a larger one was refused', () => {
    const { writer, carts } = setUp()
    for (const id of ['u-1', 'u-2']) for (const commit of [1, 2]) writer.commit(carts, id, payloadOf(id, commit, 900), plain)
    for (let commit = 3; commit < 40; commit++) {
      expect(codeOf(() => writer.commit(carts, 'u-1', payloadOf('u-1', commit, 1600), plain))).toBe('BOX_FULL')
      expect(writer.get(carts, 'u-1')?.payload).toEqual(payloadOf('u-1', commit - 1, 900))
      for (const id of ['u-1', 'u-2']) writer.commit(carts, id, payloadOf(id, commit, 900), plain)
    }
  })

  it('leaves the origin as it was where the commit that brought another was refused', () => {
    const { writer, carts } = setUp()
    writer.commit(carts, 'x', payloadOf('x', 1, 1700), plain)
    writer.commit(carts, 'y', payloadOf('y', 1, 1700), plain)
    const origin = { node: 'dead', incarnation: 1n, box: 2, sequence: 3 }
    expect(codeOf(() => writer.commit(carts, 'x', payloadOf('x', 2, 1700), { ...plain, origin }))).toBe('BOX_FULL')
    writer.delete(carts, 'y')
    writer.commit(carts, 'x', payloadOf('x', 3, 1700), plain)
    expect(writer.get(carts, 'x')?.origin).toBeUndefined()
  })

  it('has room again where sessions were deleted', () => {
    const { writer, carts } = setUp()
    for (let round = 0; round < 20; round++) {
      const ids = fill(writer, 100 + 100 * (round % 8))
      expect(ids.length).toBeGreaterThan(1)
      for (const id of ids) expect(writer.delete(carts, id)).toBe(true)
    }
    expect(writer.size).toBe(0)
  })

})

describe('a session that is too large', () => {
  it('is refused, and what was committed stays', async () => {
    const { bytes, header, writer, carts } = setUp()
    writer.commit(carts, 'u', payloadOf('u', 1, 10), plain)
    expect(codeOf(() => writer.commit(carts, 'u', new Uint8Array(2048 - 48 - 6 + 1), plain))).toBe('SESSION_TOO_LARGE')
    expect(codeOf(() => writer.commit(carts, 'new', new Uint8Array(1 << 20), plain))).toBe('SESSION_TOO_LARGE')
    expect((await readAll(bytes, header)).get('u')?.payload).toEqual(payloadOf('u', 1, 10))
    expect(writer.size).toBe(1)
  })

  it('is one of more than half the heap: one of exactly half can be committed again and again', () => {
    for (const heapBytes of [4096, 1_200_000, 64 * 333, 64 * 1001]) {
      const { writer, carts } = setUp({ ...tinyGeometry, heapBytes })
      const largest = Math.floor(heapBytes / 128) * 64 - 48 - 6
      for (let commit = 1; commit <= 3; commit++) writer.commit(carts, 'u', payloadOf('u', commit, largest), plain)
      expect(codeOf(() => writer.commit(carts, 'u', new Uint8Array(largest + 1), plain)), `heap of ${heapBytes}`).toBe('SESSION_TOO_LARGE')
      expect(writer.get(carts, 'u')?.sequence).toBe(3)
    }
  })
})

describe('a deleted session', () => {
  it('is gone for writer and reader, and its place is used again', async () => {
    const { bytes, header, writer, carts } = setUp()
    for (let round = 0; round < 3 * tinyGeometry.sessionsPerBox; round++) {
      writer.commit(carts, `u-${round}`, payloadOf('u', round, 40), plain)
      expect(writer.delete(carts, `u-${round}`)).toBe(true)
      expect(writer.get(carts, `u-${round}`)).toBeUndefined()
    }
    expect((await readAll(bytes, header)).size).toBe(0)
    expect(writer.delete(carts, 'u-1')).toBe(false)
  })

  it('does not come back from a damaged entry', async () => {
    const { bytes, header, writer, carts } = setUp()
    for (const commit of [1, 2, 3]) writer.commit(carts, 'u', payloadOf('u', commit, 40), plain)
    writer.delete(carts, 'u')
    const index = header.plan.boxesOffset + header.plan.boxBytes + header.plan.indexInBox
    bytes[index + indexEntry.crc] = (bytes[index + indexEntry.crc] as number) ^ 1
    expect((await readAll(bytes, header)).size).toBe(0)
    expect(openWriter(bytes, header).size).toBe(0)
  })

  it('leaves nothing behind in slots that it had outgrown before', async () => {
    const { bytes, header, writer, carts } = setUp()
    for (const length of [10, 10, 200, 200, 700, 700]) writer.commit(carts, 'u', payloadOf('u', length, length), plain)
    writer.delete(carts, 'u')
    // An entry in doubt that names each slot in turn finds none of them.
    const { plan } = header
    const index = plan.boxesOffset + plan.boxBytes + plan.indexInBox
    const view = new DataView(bytes.buffer)
    for (let unit = 0; unit < plan.heapBytes / 64; unit++) {
      view.setUint32(index + indexEntry.slotA, unit, true)
      view.setUint32(index + indexEntry.slotAUnits, plan.heapBytes / 64 - unit, true)
      expect((await readAll(bytes, header)).size).toBe(0)
    }
  })
})

describe('time to live', () => {
  it('ends a session for its writer, and sweeping frees its room', () => {
    let nowMs = 1000
    const { writer, carts } = setUp(tinyGeometry, () => nowMs)
    writer.commit(carts, 'short', payloadOf('short', 1, 10), { ...plain, ttlMs: 50 })
    writer.commit(carts, 'long', payloadOf('long', 1, 10), { ...plain, ttlMs: 500 })
    writer.commit(carts, 'ever', payloadOf('ever', 1, 10), plain)
    nowMs = 1049
    expect(writer.get(carts, 'short')).toBeDefined()
    nowMs = 1050
    expect(writer.get(carts, 'short')).toBeUndefined()
    expect([writer.size, writer.sweep(), writer.size, writer.sweep()]).toEqual([3, 1, 2, 0])
    nowMs = 1e12
    expect([writer.sweep(), writer.size]).toEqual([1, 1])
  })

  it('of the greatest length ends at the same time for its writer and for whoever takes the box over', () => {
    let nowMs = 1000
    const { bytes, header, writer, carts } = setUp(tinyGeometry, () => nowMs)
    const ttlMs = 2 ** 32 - 1
    writer.commit(carts, 'u', payloadOf('u', 1, 10), { ttlMs, schemaVersion: ttlMs })
    expect(writer.get(carts, 'u')).toMatchObject({ ttlMs, schemaVersion: ttlMs })
    const next = openWriter(bytes, header, { nowMs: () => nowMs })
    const found = (): boolean[] => [writer, next].map((one) => one.get(one.store('carts'), 'u') !== undefined)
    nowMs += ttlMs - 1
    expect(found()).toEqual([true, true])
    nowMs++
    expect(found()).toEqual([false, false])
  })

  it('begins again with each commit', () => {
    let nowMs = 1000
    const { writer, carts } = setUp(tinyGeometry, () => nowMs)
    for (; nowMs < 1400; nowMs += 40) {
      writer.commit(carts, 'u', payloadOf('u', 1, 10), { ...plain, ttlMs: 50 })
      expect(writer.sweep()).toBe(0)
    }
    writer.commit(carts, 'u', payloadOf('u', 2, 10), plain)
    nowMs = 1e9
    expect([writer.sweep(), writer.get(carts, 'u')?.ttlMs]).toEqual([0, 0])
  })

  it('makes room in a full box by itself', () => {
    let nowMs = 1000
    const { writer, carts } = setUp(tinyGeometry, () => nowMs)
    for (let i = 0; i < 4; i++) writer.commit(carts, `old-${i}`, payloadOf('old', i, 900), { ...plain, ttlMs: 10 })
    expect(codeOf(() => writer.commit(carts, 'new', payloadOf('new', 1, 900), plain))).toBe('BOX_FULL')
    nowMs = 2000
    writer.commit(carts, 'new', payloadOf('new', 1, 900), plain)
    expect(writer.get(carts, 'new')?.payload).toEqual(payloadOf('new', 1, 900))
  })

  it('is judged by a reader by the newest commit it finds, and told as what is left', async () => {
    let nowMs = 1000
    const { bytes, header, writer, carts } = setUp(tinyGeometry, () => nowMs)
    writer.commit(carts, 'gone', payloadOf('gone', 1, 10), { ...plain, ttlMs: 100 })
    writer.commit(carts, 'here', payloadOf('here', 1, 10), { ...plain, ttlMs: 101 })
    expect([...(await readAll(bytes, header)).keys()].sort()).toEqual(['gone', 'here'])
    nowMs = 1100
    writer.commit(carts, 'ever', payloadOf('ever', 1, 10), plain)
    const found = await readAll(bytes, header)
    expect([...found].map(([id, { remainingMs }]) => [id, remainingMs]).sort()).toEqual([['ever', 0], ['here', 1]])
  })

  it('goes on for whoever takes the box over', () => {
    let nowMs = 1000
    const { bytes, header, writer, carts } = setUp(tinyGeometry, () => nowMs)
    writer.commit(carts, 'u', payloadOf('u', 1, 10), { ...plain, ttlMs: 100 })
    const next = openWriter(bytes, header, { nowMs: () => nowMs })
    nowMs = 1099
    expect(next.get(next.store('carts'), 'u')).toBeDefined()
    nowMs = 1100
    expect(next.sweep()).toBe(1)
  })
})

describe('a session that something has written over', () => {
  it('is written whole by its next commit, its id among it, wherever the damage was', async () => {
    const { bytes, header, writer, carts } = setUp()
    for (const version of [1, 2]) writer.commit(carts, 'user', payloadOf('user', version, 40), plain)
    const heap = header.plan.boxesOffset + header.plan.boxBytes + header.plan.heapInBox
    const slot = writer.locate(carts, 'user')?.offset as number
    const other = slot === heap ? heap + 128 : heap
    // Its name and the reserved words of the version that is overwritten next.
    for (const at of [other + 40, ...Array.from({ length: 9 }, (_, i) => other + 48 + i)]) bytes[at] = (bytes[at] as number) ^ 1
    writer.commit(carts, 'user', payloadOf('user', 3, 40), plain)
    const found = await readAll(bytes, header)
    expect([...found.keys()]).toEqual(['user'])
    expect(found.get('user')).toMatchObject({ store: 'carts', sequence: 3, payload: payloadOf('user', 3, 40) })
  })

  it('is RECORD_CORRUPT for its writer', () => {
    const { bytes, header, writer, carts } = setUp()
    writer.commit(carts, 'u', payloadOf('u', 1, 40), plain)
    const heap = header.plan.boxesOffset + header.plan.boxBytes + header.plan.heapInBox
    bytes[heap + 70] = (bytes[heap + 70] as number) ^ 4
    expect(codeOf(() => writer.get(carts, 'u'))).toBe('RECORD_CORRUPT')
    writer.commit(carts, 'u', payloadOf('u', 2, 40), plain)
    expect(writer.get(carts, 'u')?.payload).toEqual(payloadOf('u', 2, 40))
  })
})
