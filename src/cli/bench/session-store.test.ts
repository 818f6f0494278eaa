/** What it compares ours to does what ours does; the rest of it needs a Redis (`session-store.debian.test.ts`). */
import session from 'express-session'
import { expect, it } from 'vitest'
import { storeSuite } from '../../servers/adapters/testing/store-suite.js'
import { runCli } from '../testing/run-cli.js'

storeSuite('MemoryStore', () => Promise.resolve({ store: new session.MemoryStore(), close: () => Promise.resolve() }))

it.each(['--pairs 0', '--seconds 0', '--in-flight 1,x'])('bench session-store refuses %s', async (option) => {
  expect((await runCli(`bench session-store ${option}`)).exitCode).toBe(2)
})
