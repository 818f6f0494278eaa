import { expect, it } from 'vitest'
import { benchCommit } from './commit.js'

it('times commits and beats, and weighs what a commit leaves to the garbage collector', () => {
  const rows = benchCommit({ samples: 2000, warmUp: 100, sessions: 20 })
  expect(rows.map(({ name, unit, samples }) => [name, unit, samples])).toEqual([
    ['commit-64B', 'µs', 2000],
    ['commit-1024B', 'µs', 2000],
    ['commit-16384B', 'µs', 2000],
    ['commit-cart', 'µs', 2000],
    ['beat', 'µs', 2],
    ['commit-1024B-garbage', 'B', 3],
  ])
  for (const { name, unit, p50, p99, p999 } of rows) {
    expect(p50, name).toBeLessThanOrEqual(p99)
    expect(p99, name).toBeLessThanOrEqual(p999)
    if (unit === 'µs') expect(p50, name).toBeGreaterThan(0)
  }
})
