/** `backdoors bench session-store`: its options, its table and its JSON. */
import { InvalidArgumentError, type Command } from 'commander'
import { existsSync } from 'node:fs'
import type { Output } from '../output.js'
import { table } from '../table.js'
import { parseCount, parseCounts } from './counts.js'
import type { RivalStore, SessionStoreRow } from './session-store.js'

const examples = `
Examples:
  backdoors bench session-store
  backdoors bench session-store --pairs 20 --seconds 1 --json

Reads, saves and touches sessions of Express, a third each, by the store of "backdoors/express-session", by connect-redis with a
Redis that is started on loopback, and by express-session's MemoryStore, in turns. Needs redis-server, and the packages
express-session, connect-redis and redis.`

interface SessionStoreArguments {
  readonly pairs: number
  readonly seconds: number
  readonly inFlight: readonly number[]
  readonly sessions: number
  readonly history?: string
  readonly json?: boolean
}

const titles: Record<RivalStore, string> = { backdoors: 'Backdoors', connectRedis: 'connect-redis', memoryStore: 'MemoryStore' }

/** Adds the command to `backdoors bench`. */
export function registerSessionStore(bench: Command, output: Output): void {
  bench
    .command('session-store')
    .description('stores of express-session: ours, connect-redis, MemoryStore')
    .option('--pairs <count>', 'runs of each store', parseCount, 10)
    .option('--seconds <seconds>', 'length of a run', seconds, 0.5)
    .option('--in-flight <counts>', 'operations under way at a time, with commas between', parseCounts, [1, 32])
    .option('--sessions <count>', 'that are there', parseCount, 1000)
    .option('--history <file>', 'append the rows to this file as JSON lines')
    .option('--json', 'one JSON object on stdout')
    .addHelpText('after', examples)
    .action(async ({ history, json, ...options }: SessionStoreArguments) => {
      const { benchSessionStore, rivalStores } = await import('./session-store.js')
      const { appendHistory, circumstancesOf, historyRow } = await import('./history.js')
      const rows = await benchSessionStore({ ...options, ...(existsSync('/dev/shm') ? { folder: '/dev/shm' } : {}) }, (what) => output.note(what))
      const circumstances = circumstancesOf('shm')
      if (history !== undefined) appendHistory(history, rows.flatMap((row) => rivalStores.map((name) => historyRow(`session-store/${name}/${row.inFlight}`, 'operations/s', row.operationsPerSecond[name], circumstances))))
      if (json) output.json({ sessionStore: rows, ...circumstances })
      else output.line(table(['in flight', ...rivalStores.map((name) => `${titles[name]}, operations/s`), 'times connect-redis', 'goal'], rows.map(tableRow)))
    })
}

function tableRow({ inFlight, operationsPerSecond: { backdoors, connectRedis, memoryStore }, timesConnectRedis: { mean, low, high }, goal }: SessionStoreRow): (string | number)[] {
  return [inFlight, ...[backdoors, connectRedis, memoryStore].map(({ p50 }) => Math.round(p50)), `${mean.toFixed(1)} (${low.toFixed(1)} to ${high.toFixed(1)})`, `≥ ${goal}`]
}

function seconds(text: string): number {
  const length = Number(text)
  if (length > 0 && length <= 3600) return length
  throw new InvalidArgumentError('It must be a number of seconds above 0, at most 3600.')
}
