/** Steps against a real PostgreSQL. */
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createSite } from '../application/site.js'
import { Router } from '../application/router.js'
import type { Step, Visit } from '../application/visit.js'
import { Visits } from '../application/visits.js'
import { Random } from '../../../src/fabric/mock/random.js'
import { audit } from '../users/audit.js'
import { readRows } from '../users/audit-rows.js'
import { EmulatedUser } from '../users/emulated-user.js'
import { Catalogue } from './catalogue.js'
import { Postgres } from './postgres.js'
import { accountName, accountPassword, makeTables } from './schema.js'
import { runStep } from './steps.js'

let postgres: Postgres
let pool: pg.Pool
let user: number

beforeAll(async () => {
  // Debian's own, if it runs, has the port on 127.0.0.1.
  postgres = await Postgres.start({ host: '127.0.0.77' })
  pool = new pg.Pool({ connectionString: postgres.url, idle_in_transaction_session_timeout: 1000 })
  pool.on('error', () => undefined)
  const client = await pool.connect()
  await makeTables(client, { accounts: 12, seed: 1 })
  client.release()
  user = (await new Catalogue(pool).login(accountName(11), accountPassword))?.id ?? 0
})

afterAll(async () => {
  await pool.end()
  await postgres.close()
})

const rowsOf = async (table: string, key: string): Promise<number> => Number((await pool.query<{ count: string }>(`select count(*) from ${table} where step_key = $1`, [`${user}:${key}`])).rows[0]?.count)
const bidStep = (key: string, item: number, cents: number): Step => ({ kind: 'bid', key, user, item, cents })

describe('a step', () => {
  it('that many run at once happens once, and all are told the same', async () => {
    const step = bidStep('same', 1, 1_000_000)
    const runs = await Promise.all(Array.from({ length: 8 }, () => runStep(pool, step)))
    expect(runs.map(({ result }) => result)).toEqual(Array(8).fill({ kind: 'bid', isAccepted: true, highestCents: 1_000_000 }))
    expect(runs.filter(({ wasDone }) => !wasDone)).toHaveLength(1)
    expect(await rowsOf('bids', 'same')).toBe(1)
  })

  it('that a frozen client began is done by another, once that one’s transaction is ended', async () => {
    const frozen = await pool.connect()
    frozen.on('error', () => undefined)
    await frozen.query('begin')
    await frozen.query('insert into done_steps (key) values ($1)', [`${user}:frozen`])
    expect(await runStep(pool, bidStep('frozen', 2, 1_000_000))).toMatchObject({ wasDone: false, result: { isAccepted: true } })
    await expect(frozen.query('commit')).rejects.toThrow()
    frozen.release(true)
    expect(await rowsOf('bids', 'frozen')).toBe(1)
  })

  it('bids no less than has been bid, and on nothing that is not there', async () => {
    await runStep(pool, bidStep('high', 3, 1_000_000))
    expect((await runStep(pool, bidStep('low', 3, 1_000_000))).result).toEqual({ kind: 'bid', isAccepted: false, highestCents: 1_000_000 })
    expect((await runStep(pool, bidStep('nowhere', 1_000_000, 100))).result).toEqual({ kind: 'bid', isAccepted: false, highestCents: 0 })
  })

  it('buys what is left, each line whole or not', async () => {
    const { rows } = await pool.query<{ id: number; stock: number; each: number }>('select id, stock, buy_now_cents as each from items where buy_now_cents is not null order by id limit 2')
    const [first, second] = rows as [(typeof rows)[number], (typeof rows)[number]]
    const lines = [{ item: second.id, quantity: second.stock + 1 }, { item: first.id, quantity: 2 }]
    const { result } = await runStep(pool, { kind: 'checkout', key: 'buy', user, lines })
    expect(result).toEqual({ kind: 'checkout', lines: [{ item: first.id, quantity: 2, cents: 2 * first.each, isBought: true }, { item: second.id, quantity: second.stock + 1, cents: 0, isBought: false }] })
    expect((await runStep(pool, { kind: 'checkout', key: 'buy', user, lines })).wasDone).toBe(true)
    expect(await rowsOf('purchases', 'buy')).toBe(1)
    expect((await readRows(postgres.url)).wrongStocks).toEqual([])
  })
})

it('comes by the network to those who have the password', async () => {
  const url = new URL(postgres.networkUrl ?? '')
  const client = new pg.Client({ connectionString: url.href })
  await client.connect()
  await client.end()
  url.password = 'wrong'
  const stranger = new pg.Client({ connectionString: url.href })
  await expect(stranger.connect()).rejects.toMatchObject({ code: '28P01' })
})

it('users who have no retry code are served on one connection each, and find everything as they left it', async () => {
  const stored = new Map<string, Visit>()
  const visits = new Visits({ store: { get: (id) => stored.get(id), ids: () => stored.keys(), commit: (id, visit) => void stored.set(id, visit) }, run: (step) => runStep(pool, step) })
  let drawn = 0
  const router = new Router({ node: 'a', visits, catalogue: new Catalogue(pool), randomText: () => `random-text-number-${++drawn}` })
  const site = createSite({ router, isFenced: () => false, onFailed: (error) => { throw error } })
  site.listen(0, '127.0.0.1')
  await once(site, 'listening')
  const { port } = site.address() as AddressInfo
  const random = new Random(1)
  let answers = 0
  let enough: () => void = () => undefined
  const done = new Promise<void>((resolve) => (enough = resolve))
  const users = Array.from({ length: 6 }, (_, i) => new EmulatedUser({
    name: accountName(i), password: accountPassword, client: { addresses: [{ host: '127.0.0.1', port }] }, random: random.fork(`user ${i}`), thinkMs: 1,
    onAnswer: () => ++answers >= 600 && enough(),
  }))
  for (const each of users) each.start(0)
  await done
  await Promise.all(users.map((each) => each.stop()))
  const rows = await readRows(postgres.url)
  const ledgers = users.map(({ ledger }) => ledger)
  const own = <T extends { user: string }>(all: readonly T[]): T[] => all.filter((row) => row.user !== accountName(11))
  expect(audit(ledgers, { ...rows, bids: own(rows.bids), purchases: own(rows.purchases), items: own(rows.items) })).toEqual([])
  expect(ledgers.flatMap(({ findings }) => findings)).toEqual([])
  expect(users.map(({ connections }) => connections)).toEqual([1, 1, 1, 1, 1, 1])
  site.close()
  site.closeAllConnections()
})
