import { describe, expect, it } from 'vitest'
import { cameToBe } from './came-to-be.js'

const never = (): boolean => false

describe('what is waited for', () => {
  it('came to be, sooner or later', async () => {
    let looks = 0
    expect(await cameToBe(() => looks++ === 2, 60_000, never)).toBe(true)
    expect(looks).toBe(3)
    expect(await cameToBe(() => true, -1, () => true)).toBe(true)
  })

  it('did not within its limit, or before all was over', async () => {
    expect(await cameToBe(never, -1, never)).toBe(false)
    let looks = 0
    expect(await cameToBe(never, 60_000, () => looks++ === 2)).toBe(false)
  })
})
