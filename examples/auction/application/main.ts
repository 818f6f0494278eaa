/**
 * An application node, a process of its own: it attaches to its machine's region, keeps its visits there, and serves the
 * pages over HTTP. Its first argument is an `ApplicationArguments` as JSON; what happens to it is told on stdout as JSON lines.
 * A line `hold` on its standard input makes it pause, once, between the database's commit of a step and the session's.
 */
import { randomBytes } from 'node:crypto'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { attach, continuable } from 'backdoors'
import pg from 'pg'
import { exitCodeOf, exitCodes } from '../../../src/cli/exit-codes.js'
import { Catalogue } from '../database/catalogue.js'
import { runStep } from '../database/steps.js'
import { sayer } from '../events.js'
import { Router } from './router.js'
import { createSite } from './site.js'
import type { Visit } from './visit.js'
import { Visits } from './visits.js'

export interface ApplicationArguments {
  /** The node's name. */
  readonly node: string
  readonly region: string
  /** The server's name in the region. Default `auction`. */
  readonly name?: string
  /** Address to listen on. */
  readonly host: string
  /** 0 for any that is free. */
  readonly port: number
  /** For `pg`: postgresql://… */
  readonly database: string
  /** Of its event loop's sensor, in milliseconds. */
  readonly deadlineMs: number
  /** Time to live of a visit, in milliseconds. Default half an hour. */
  readonly ttlMs?: number
  /** A transaction whose client has frozen ends after so long, in milliseconds; others wait for its rows until then. Default 1000. */
  readonly abandonedAfterMs?: number
  /** Clients' connections outlive this machine, where its memory is lent and its address moves. */
  readonly continues?: boolean
  /** For demonstrations only: steps are done again although they have been done. */
  readonly ignoresKeys?: boolean
}

const usualTtlMs = 1_800_000
const connections = 8
/** A pause between the two commits lasts so long, in milliseconds; whoever asked for it fails the node meanwhile. */
const holdMs = 1500
const queryLimitMs = 20_000
const say = sayer()

async function main(args: ApplicationArguments): Promise<void> {
  const { node: name, region, host, port, database, deadlineMs, ttlMs = usualTtlMs, abandonedAfterMs = 1000, ignoresKeys = false } = args
  const pool = new pg.Pool({
    connectionString: database, max: connections, idle_in_transaction_session_timeout: abandonedAfterMs, query_timeout: queryLimitMs, keepAlive: true,
  })
  // One that is lost while it rests is replaced when it is needed.
  pool.on('error', () => undefined)
  const node = await attach({ region, name: args.name ?? 'auction' })
  node.sensor('event-loop', { deadlineMs })
  const store = node.sessions<Visit>('visits', { ttlMs })
  let holds = false
  const visits = new Visits({
    store,
    run: (step) => runStep(pool, step, { ignoresKeys }),
    onFinished: ({ kind, key }, { wasDone }) => say('finished', { kind, key, wasDone }),
    betweenCommits: async ({ kind, key }) => {
      if (!holds) return
      holds = false
      say('holding', { kind, key })
      await sleep(holdMs)
    },
  })
  const router = new Router({ node: name, visits, catalogue: new Catalogue(pool), randomText: () => randomBytes(15).toString('base64url') })
  const site = createSite({ router, isFenced: () => node.fenced, onFailed: (error) => say('request-failed', { message: error instanceof Error ? error.message : String(error) }) })
  store.on('adopted', ({ from, ids }) => {
    say('adopted', { from, count: ids.length })
    void visits.finish(ids)
  })
  node.once('fenced', () => {
    say('fenced')
    process.exit(exitCodes.fenced)
  })
  // What a form asks for is done once, however often it comes: its key says so.
  if (args.continues) continuable(site, node, { name: 'auction', replay: () => true })
  site.listen(port, host, () => {
    const address = site.address()
    say('serving', { port: typeof address === 'object' ? address?.port : port, deadlineMs })
  })
  // An earlier life of this server may have been interrupted, too.
  void visits.finish([...store.ids()])
  createInterface({ input: process.stdin }).on('line', (line) => (holds ||= line === 'hold')).once('close', () => process.exit(0))
}

await main(JSON.parse(process.argv[2] ?? '{}') as ApplicationArguments).catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exit(exitCodeOf(error))
})
