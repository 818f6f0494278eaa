/** The benchmark runs tiny here, so that it cannot rot; and what it compares ours to does what ours does. */
import { describe, expect, it } from 'vitest'
import { storeSuite } from '../../servers/adapters/testing/store-suite.js'
import { jsonOf, runCli } from '../testing/run-cli.js'
import { withConnectRedis } from './session-store.js'

storeSuite('connect-redis', () => new Promise((resolve, reject) => {
  const ended = withConnectRedis((store) => new Promise<void>((close) => {
    resolve({ store, close: () => (close(), ended) })
  }))
  ended.catch(reject)
}))

describe('bench session-store', () => {
  it('runs the stores in turns, and says how many times as fast as connect-redis ours is', async () => {
    const argv = ['bench', 'session-store', '--pairs', '2', '--seconds', '0.05', '--in-flight', '1,4', '--sessions', '20']
    const { sessionStore } = jsonOf(await runCli([...argv, '--json'])) as { sessionStore: object[] }
    const figures = { samples: 2, p50: expect.any(Number) as number }
    const bounds = { mean: expect.any(Number) as number, low: expect.any(Number) as number, high: expect.any(Number) as number }
    expect(sessionStore).toMatchObject([1, 4].map((inFlight) => ({ inFlight, pairs: 2, goal: 10, operationsPerSecond: { backdoors: figures, connectRedis: figures, memoryStore: figures }, timesConnectRedis: bounds })))
    expect((await runCli(argv)).stdout).toMatch(/connect-redis, operations\/s/)
  })
})
