import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isBackdoorsError } from '../../errors.js'
import { encodeFrame } from './framing.js'
import { answerSchema, controlSchema, helloSchema, helloVersionSchema, readMessage, toWire } from './messages.js'
import { negotiate } from './negotiate.js'
import { endpoint, endpoints, welcome } from './testing/fixtures.js'

const strict = [helloSchema, answerSchema, controlSchema]
const schemas = [...strict, helloVersionSchema]

const goodMessages: object[] = [
  { type: 'hello', protocolVersion: 1, cluster: 'shop', node: 'web-1', fabric: 'verbs', endpoints },
  { type: 'hello', protocolVersion: 1, cluster: 'shop', node: 'web-1', fabric: 'shm' },
  toWire(answerSchema, { type: 'welcome', node: 'db-1', ...welcome }),
  { type: 'refused', code: 'lend', message: 'no' },
  { type: 'ping', id: 1 },
  { type: 'request', id: 1, method: 'observe', body: { of: 'db-2' } },
  { type: 'response', id: 1, ok: true, body: null },
  { type: 'response', id: 1, ok: false, code: 'TIMEOUT', message: 'late' },
  { type: 'bye', reason: '' },
]

/** Reads with every validator; returns whether any of them took it. Throws what is not a PROTOCOL_ERROR. */
function takenBySome(bytes: Uint8Array, by: readonly (typeof schemas)[number][] = schemas): boolean {
  const taken = by.map((schema) => {
    try {
      readMessage(schema, bytes)
      return true
    } catch (error) {
      if (!isBackdoorsError(error, 'PROTOCOL_ERROR')) throw error
      expect(error.message.length).toBeLessThan(500)
      return false
    }
  })
  return taken.includes(true)
}

function bytesOf(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value))
}

describe('the validators', () => {
  test('take every good message', () => {
    for (const message of goodMessages) expect([message, takenBySome(bytesOf(message))]).toEqual([message, true])
  })

  test('answer any bytes, and any JSON, with a PROTOCOL_ERROR', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void takenBySome(bytes)), { numRuns: 2000 })
    fc.assert(fc.property(fc.json({ maxDepth: 6 }), (text) => void takenBySome(Buffer.from(text))), { numRuns: 2000 })
  })

  test('take no good message with one thing in it changed for something else, unless it is as good', () => {
    const places = goodMessages.flatMap((message) => paths(message)
        .filter((path) => !path.startsWith('body'))
        .map((path) => ({ message, path })),
    )
    fc.assert(
      fc.property(fc.constantFrom(...places), fc.oneof(fc.jsonValue(), fc.constantFrom(-1, 0.5, 2 ** 53, 2 ** 32, '0x', '0X1', 'x'.repeat(2000), '../x')), ({ message, path }, value) => {
        const changed = replaceAt(message, path, value)
        if (!takenBySome(bytesOf(changed), strict)) return
        // What was taken has to be of the same kind as what stood there.
        expect([path, typeof value]).toEqual([path, typeof at(message, path)])
      }),
      { numRuns: 1000 },
    )
  })

  test('take nothing with a field too many, at any depth', () => {
    for (const message of goodMessages) {
      for (const path of ['', ...paths(message)].filter((place) => !place.startsWith('body'))) {
        const target = path === '' ? message : at(message, path)
        if (typeof target !== 'object' || target === null || Array.isArray(target)) continue
        const changed = path === '' ? { ...message, extra: 1 } : replaceAt(message, path, { ...target, extra: 1 })
        for (const schema of strict) expect(() => readMessage(schema, bytesOf(changed))).toThrow(expect.objectContaining({ code: 'PROTOCOL_ERROR' }) as Error)
      }
    }
  })

  test.each([
    ['a window beyond the region', { windows: [{ offset: 1, length: 16_777_216, address: '0x1', rkey: 1, access: 'read' }] }],
    ['a window beyond the address space', { windows: [{ offset: 0, length: 2, address: '0xffffffffffffffff', rkey: 1, access: 'read' }] }],
    ['an empty window', { windows: [{ offset: 0, length: 0, address: '0x1', rkey: 1, access: 'read' }] }],
    ['no window', { windows: [] }],
    ['too many windows', { windows: Array.from({ length: 65 }, () => ({ offset: 0, length: 1, address: '0x1', rkey: 1, access: 'read' })) }],
    ['an rkey of 33 bits', { windows: [{ offset: 0, length: 1, address: '0x1', rkey: 2 ** 32, access: 'read' }] }],
    ['an address of 65 bits', { windows: [{ offset: 0, length: 1, address: '0x10000000000000000', rkey: 1, access: 'read' }] }],
    ['an incarnation as a number', { incarnation: 1 }],
    ['a path MTU that there is not', { endpoints: { sampling: { ...endpoint(1), mtu: 1500 }, recovery: endpoint(2) } }],
    ['a gid in capitals', { endpoints: { sampling: { ...endpoint(1), gid: 'F'.repeat(32) }, recovery: endpoint(2) } }],
    ['no reads outstanding', { endpoints: { sampling: { ...endpoint(1), maxRdAtomic: 0 }, recovery: endpoint(2) } }],
  ])('take no welcome with %s', (_, change) => {
    const message = { ...toWire(answerSchema, { type: 'welcome', node: 'db-1', ...welcome }), ...change }
    expect(() => readMessage(answerSchema, bytesOf(message))).toThrow(expect.objectContaining({ code: 'PROTOCOL_ERROR' }) as Error)
  })

  test('say where the fault is', () => {
    const message = { ...goodMessages[0], endpoints: { ...endpoints, recovery: endpoint(-1) } }
    expect(() => readMessage(helloSchema, bytesOf(message))).toThrow(expect.objectContaining({ details: { field: 'endpoints.recovery.qpn' } }) as Error)
  })

  test('turn 64-bit fields to wire and back', () => {
    const sent = { type: 'welcome', node: 'db-1', ...welcome } as const
    const frame = encodeFrame(toWire(answerSchema, sent))
    expect(readMessage(answerSchema, frame.subarray(4))).toEqual(sent)
    expect(Object.isFrozen(welcome.windows)).toBe(false)
  })

  test('do not let our own side send what breaks the bounds', () => {
    expect(() => toWire(answerSchema, { type: 'welcome', node: 'db-1', ...welcome, incarnation: 1n << 64n })).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }) as Error)
  })
})

describe('negotiation', () => {
  test('takes the smaller of both ends, and both ends come to the same', () => {
    const here = { ...endpoint(1), mtu: 4096, maxRdAtomic: 16, maxDestRdAtomic: 128 }
    const there = { ...endpoint(2), mtu: 1024, maxRdAtomic: 8, maxDestRdAtomic: 4 }
    expect(negotiate(here, there)).toEqual({ mtu: 1024, maxRdAtomic: 4, maxDestRdAtomic: 8 })
    expect(negotiate(there, here)).toEqual({ mtu: 1024, maxRdAtomic: 8, maxDestRdAtomic: 4 })
  })
})

/** Dotted paths of everything inside `value`. */
function paths(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([key, inner]) => [key, ...paths(inner).map((rest) => `${key}.${rest}`)])
}

function at(value: unknown, path: string): unknown {
  return path.split('.').reduce<unknown>((inner, key) => (inner as Record<string, unknown>)[key], value)
}

function replaceAt(value: object, path: string, replacement: unknown): object {
  const copy = structuredClone(value)
  const keys = path.split('.')
  const last = keys.pop()!
  const parent = keys.length === 0 ? copy : at(copy, keys.join('.'))
  ;(parent as Record<string, unknown>)[last] = replacement
  return copy
}
