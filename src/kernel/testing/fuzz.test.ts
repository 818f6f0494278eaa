import fc from 'fast-check'
import { afterEach, expect, it, vi } from 'vitest'
import { fuzzSeed } from '../../fabric/testing/fuzz-seed.js'
import { fuzz } from './fuzz.js'

afterEach(() => void vi.unstubAllEnvs())

/** What a test that fuzzes is given. */
function drawn(): number[] {
  const all: number[] = []
  fc.assert(fc.property(fc.nat(), (number) => void all.push(number)), fuzz(20))
  return all
}

it('the cases of a fuzz test are those of the seed that is asked for, and the same each time', () => {
  const usual = drawn()
  vi.stubEnv('BACKDOORS_FUZZ_SEED', '4711')
  const others = drawn()
  expect([fuzzSeed(), drawn()]).toEqual([4711, others])
  expect(others).not.toEqual(usual)
})

it('the seed that says a red run is the one that was asked for', () => {
  vi.stubEnv('BACKDOORS_FUZZ_SEED', '-42')
  expect(() => fc.assert(fc.property(fc.nat(), () => false), fuzz(20))).toThrow('seed: -42')
})

it('nobody asks for one: the usual seed', () => {
  for (const wanted of ['', undefined]) {
    vi.stubEnv('BACKDOORS_FUZZ_SEED', wanted)
    expect(fuzzSeed()).toBe(1)
  }
})

it.each(['x', '1.5', '0x10', ' ', '1e3', '4294967296'])('what is no seed (%j) is refused', (wanted) => {
  expect(() => fuzzSeed(wanted)).toThrow('BACKDOORS_FUZZ_SEED must be a whole number')
})
