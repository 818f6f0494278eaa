/** Reads out of the database what the audit compares. */
import pg from 'pg'
import type { Rows } from './audit.js'

const key = (table: string): string => `split_part(${table}.step_key, ':', 2) as key`

export async function readRows(database: string): Promise<Rows> {
  const client = new pg.Client({ connectionString: database })
  await client.connect()
  const rows = async <T extends object>(text: string): Promise<T[]> => (await client.query<T>(text)).rows
  const ids = async (text: string): Promise<number[]> => (await rows<{ id: number }>(text)).map(({ id }) => id)
  try {
    return {
      bids: await rows(`select ${key('b')}, u.name as user, b.item, b.cents from bids b join users u on u.id = b.bidder`),
      purchases: await rows(`select ${key('p')}, u.name as user, p.item, p.quantity, p.cents from purchases p join users u on u.id = p.buyer`),
      items: await rows(`select ${key('i')}, u.name as user, i.id, i.title from items i join users u on u.id = i.seller where i.step_key is not null`),
      wrongStocks: await ids('select i.id from items i where i.initial_stock - i.stock <> (select coalesce(sum(quantity), 0) from purchases where item = i.id)'),
      fallingBids: await ids('select distinct item as id from (select item, cents, lag(cents) over (partition by item order by id) as before from bids) b where cents <= before'),
    }
  } finally {
    await client.end()
  }
}
