/** Anything at all as arguments: an error of ours, and never a crash. */
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createMemory, temporaryFolder } from '../../addon/test/native-fixture.js'
import { BackdoorsError } from '../errors.js'
import { memoryAddon } from './load.js'

/** Codes that wrong arguments may lead to. */
const allowed = ['INVALID_ARGUMENT', 'CLOSED', 'OUT_OF_RANGE', 'UNALIGNED', 'READ_ONLY', 'REGION_NOT_FOUND', 'REGION_EXISTS', 'REGION_TRUNCATED', 'SYSTEM_CALL_FAILED']

/** Lengths that would take long to allocate are left out; those no machine can give are not. */
const number = fc.oneof(
  fc.constantFrom(0, -0, 1, 4, 7, 8, 64, 4_096, 65_528, 65_536, -1, 0.5, 2 ** 31, 2 ** 32 - 1, 2 ** 53, 2 ** 63, 2 ** 64, 1e308, -1e308, NaN, Infinity, -Infinity),
  fc.nat(65_536),
)
const exotic = fc.constantFrom<unknown>(
  undefined, null, true, false, '', 'x', 'a\0b', 0n, 1n, -1n, 2n ** 64n, Symbol('s'), () => 1, [], {}, new Date(0), new Proxy({}, {}),
  new ArrayBuffer(8), new SharedArrayBuffer(8), new DataView(new ArrayBuffer(8)), new Uint8Array(0), new Uint8Array(64), new Uint16Array(4), new Float32Array(4),
)
const doubles = fc.array(number, { maxLength: 9 }).map((numbers) => Float64Array.from(numbers))
const cell = fc.record({ counterPosition: number, pendingPosition: number, deadlineUs: number }, { requiredKeys: [] })
const options = fc.record(
  {
    path: fc.constantFrom<unknown>('/dev/null', '/absent/x', '', 3, 'a\0b', '/'),
    create: fc.constantFrom<unknown>(true, false, 1), memfd: fc.boolean(), writable: fc.boolean(), hugePages: fc.constant(false),
    length: fc.constantFrom<unknown>(0, 1, 4_096, 65_536, 2 ** 52, NaN, -1, '8'), mode: number,
    memory: exotic, counterOffset: number, fenceOffset: number, fenceLimit: number, intervalUs: number,
  },
  { requiredKeys: [] },
)
const argument = fc.oneof(number, exotic, doubles, fc.array(cell, { maxLength: 3 }), options)

function attempt(call: () => unknown): void {
  try {
    call()
  } catch (error) {
    // V8 itself refuses a method on an object of another class.
    if (error instanceof TypeError && error.message === 'Illegal invocation') return
    expect(error).toBeInstanceOf(BackdoorsError)
    expect(allowed).toContain((error as BackdoorsError).code)
  }
}

describe('any arguments', () => {
  it('give an error, and never a crash', { timeout: 120_000 }, () => {
    const addon = memoryAddon()
    const path = join(temporaryFolder(), 'region')
    const memory = createMemory({ path })
    const reader = new addon.FileReader(path)
    const sampler = new addon.Sampler(() => undefined)
    const things: unknown[] = [memory, reader, sampler]
    const objects: Record<string, unknown>[] = [memory, reader, sampler].map((each) => each as unknown as Record<string, unknown>)
    const methods = objects.flatMap((object) =>
      Object.getOwnPropertyNames(Object.getPrototypeOf(object)).filter((name) => !['constructor', 'close', 'fd', 'pages', 'path', 'warnings', 'writable'].includes(name)).map((name) => [object, name] as const),
    )
    const functions = [addon.crc32c, addon.crc32cMany, addon.crc32cBySoftware, addon.monotonicUs, addon.adviseHugePages, addon.writeMonotonicMs, addon.lockFile] as unknown as ((...args: readonly unknown[]) => unknown)[]
    const classes = [addon.SharedMemory, addon.FileReader, addon.BeatThread, addon.Sampler] as unknown as (new (...args: readonly unknown[]) => { close(): void })[]
    const anything = fc.array(fc.oneof(argument, fc.constantFrom(...things)), { maxLength: 6 })
    const property = fc.property(anything, fc.nat(), fc.boolean(), (args, pick, isForeign) => {
      const [object, name] = methods[pick % methods.length] as (typeof methods)[number]
      const receiver = isForeign ? (args[0] ?? things[pick % 3]) : object
      attempt(() => Reflect.apply(object[name] as () => unknown, receiver, args))
      attempt(() => (functions[pick % functions.length] as () => unknown)(...(args as [])))
      attempt(() => new (classes[pick % classes.length] as (typeof classes)[number])(...args).close())
    })
    fc.assert(property, { numRuns: 10_000 })
    sampler.close()
    reader.close()
    memory.close()
  })
})
