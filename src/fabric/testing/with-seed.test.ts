import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { withSeed, withSeeds } from './with-seed.js'

describe('withSeed', () => {
  // These tests are about the variable itself, so that a wish from outside must not reach them.
  beforeEach(() => void vi.stubEnv('BACKDOORS_SEED', ''))
  afterEach(() => void vi.unstubAllEnvs())

  it('gives the seed to the body, and what the body gives', async () => {
    expect(await withSeed(7, (seed) => seed * 2)).toBe(14)
  })

  it('says the seed when the body fails, and why it failed', async () => {
    const cause = new Error('a session is lost')
    const failing = withSeed(7, () => Promise.reject(cause))
    await expect(failing).rejects.toMatchObject({ message: 'a session is lost\nwith seed 7; replay it with BACKDOORS_SEED=7', cause })
  })

  it('takes the seed that the environment asks for', async () => {
    vi.stubEnv('BACKDOORS_SEED', '99')
    expect(await withSeed(7, (seed) => seed)).toBe(99)
    const seeds: number[] = []
    await withSeeds(1, 10, (seed) => void seeds.push(seed))
    expect(seeds).toEqual([99])
  })

  it('runs many seeds in a row, up to the one that fails', async () => {
    const seeds: number[] = []
    const run = withSeeds(5, 10, (seed) => {
      seeds.push(seed)
      if (seed === 7) throw new Error('no')
    })
    await expect(run).rejects.toThrow('with seed 7')
    expect(seeds).toEqual([5, 6, 7])
  })
})
