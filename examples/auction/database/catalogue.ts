/** What the pages show of the database. Nothing here changes it. */
import { timingSafeEqual } from 'node:crypto'
import type { Pool } from 'pg'
import { passwordHash } from './schema.js'

export interface Category {
  readonly id: number
  readonly name: string
  readonly items: number
}

export interface ItemSummary {
  readonly id: number
  readonly title: string
  readonly category: number
  readonly startCents: number
  readonly buyNowCents: number | null
  readonly stock: number
  /** Null where nobody has bid. */
  readonly highestCents: number | null
  readonly bids: number
}

export interface Item extends ItemSummary {
  readonly description: string
  readonly seller: string
  readonly categoryName: string
  readonly endsAt: Date
}

export interface Bid {
  readonly item: number
  readonly title: string
  readonly bidder: string
  readonly cents: number
  readonly placedAt: Date
}

export interface Purchase {
  readonly key: string
  readonly item: number
  readonly title: string
  readonly quantity: number
  readonly cents: number
}

const summaries = `
  select i.id, i.title, i.category, i.start_cents as "startCents", i.buy_now_cents as "buyNowCents", i.stock,
    (select max(cents) from bids where item = i.id) as "highestCents", (select count(*)::int from bids where item = i.id) as bids
  from items i`
export const pageLength = 12

export class Catalogue {
  readonly #pool: Pool

  constructor(pool: Pool) {
    this.#pool = pool
  }

  /** @returns the account, where name and password are right */
  async login(name: string, password: string): Promise<{ id: number; name: string } | undefined> {
    const [found] = await this.#rows<{ id: number; name: string; password: string }>('select id, name, password from users where name = $1', [name])
    if (found === undefined) return undefined
    const given = passwordHash(password, found.password.split(':')[0] ?? '')
    const isRight = given.length === found.password.length && timingSafeEqual(Buffer.from(given), Buffer.from(found.password))
    return isRight ? { id: found.id, name: found.name } : undefined
  }

  categories(): Promise<Category[]> {
    return this.#rows('select c.id, c.name, (select count(*)::int from items where category = c.id) as items from categories c order by c.id', [])
  }

  /** One page of a category, the newest items first. @param page counts from 0 */
  category(category: number, page: number): Promise<ItemSummary[]> {
    return this.#rows(`${summaries} where i.category = $1 order by i.id desc limit $2 offset $3`, [category, pageLength, page * pageLength])
  }

  /** Those that most is bid on. */
  busiest(): Promise<ItemSummary[]> {
    return this.#rows(`${summaries} order by bids desc, i.id limit 8`, [])
  }

  items(ids: readonly number[]): Promise<ItemSummary[]> {
    return this.#rows(`${summaries} where i.id = any ($1) order by i.id`, [ids])
  }

  async item(id: number): Promise<Item | undefined> {
    const [item] = await this.#rows<Item>(
      `select s.*, i.description, u.name as seller, c.name as "categoryName", i.ends_at as "endsAt"
       from (${summaries} where i.id = $1) s join items i using (id) join users u on u.id = i.seller join categories c on c.id = i.category`, [id])
    return item
  }

  /** All bids on an item, the highest first. */
  history(item: number): Promise<Bid[]> {
    return this.#bids('b.item = $1 order by b.cents desc, b.id', item)
  }

  bidsOf(user: number): Promise<Bid[]> {
    return this.#bids('b.bidder = $1 order by b.id desc', user)
  }

  purchasesOf(user: number): Promise<Purchase[]> {
    return this.#rows(
      `select split_part(p.step_key, ':', 2) as key, p.item, i.title, p.quantity, p.cents from purchases p join items i on i.id = p.item where p.buyer = $1 order by p.id desc`, [user])
  }

  itemsOf(seller: number): Promise<ItemSummary[]> {
    return this.#rows(`${summaries} where i.seller = $1 order by i.id desc`, [seller])
  }

  #bids(which: string, id: number): Promise<Bid[]> {
    return this.#rows(
      `select b.item, i.title, u.name as bidder, b.cents, b.placed_at as "placedAt" from bids b join users u on u.id = b.bidder join items i on i.id = b.item where ${which}`, [id])
  }

  async #rows<T extends object>(text: string, values: readonly unknown[]): Promise<T[]> {
    return (await this.#pool.query<T>(text, [...values])).rows
  }
}
