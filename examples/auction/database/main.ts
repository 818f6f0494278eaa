/**
 * The database tier, a process of its own: a PostgreSQL with the auction's tables. Its first argument is a
 * `DatabaseArguments` as JSON. Says `{"event":"listening","url":…}` on stdout when it can be used, and ends with its standard input.
 */
import pg from 'pg'
import { sayer } from '../events.js'
import { Postgres } from './postgres.js'
import { makeTables, type SeedOptions } from './schema.js'

export interface DatabaseArguments extends SeedOptions {
  /** Address to listen on. Default: a unix socket only. */
  readonly host?: string
}

const say = sayer()

async function main({ host, ...seed }: DatabaseArguments): Promise<void> {
  const postgres = await Postgres.start(host === undefined ? {} : { host })
  process.once('exit', () => postgres.closeNow())
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))
  const client = new pg.Client({ connectionString: postgres.url })
  await client.connect()
  await makeTables(client, seed)
  await client.end()
  say('listening', { url: postgres.networkUrl ?? postgres.url })
  process.stdin.once('end', () => void postgres.close().then(() => process.exit(0))).resume()
}

await main(JSON.parse(process.argv[2] ?? '{}') as DatabaseArguments)
