/** The auction's tables, and what is in them before anybody comes. */
import { scryptSync } from 'node:crypto'
import type { ClientBase } from 'pg'
import { Random } from '../../../src/fabric/mock/random.js'

const tables = `
  create table users (id serial primary key, name text not null unique, password text not null, since timestamptz not null default now());
  create table categories (id serial primary key, name text not null unique);
  create table items (
    id serial primary key, seller int not null references users, category int not null references categories,
    title text not null, description text not null, start_cents int not null check (start_cents > 0),
    buy_now_cents int check (buy_now_cents > 0), initial_stock int not null, stock int not null check (stock >= 0),
    ends_at timestamptz not null default now() + interval '7 days', step_key text);
  create index on items (category);
  create index on items (seller);
  create table bids (
    id bigserial primary key, item int not null references items, bidder int not null references users, cents int not null check (cents > 0),
    placed_at timestamptz not null default now(), step_key text);
  create index on bids (item);
  create index on bids (bidder);
  create table purchases (
    id bigserial primary key, item int not null references items, buyer int not null references users, quantity int not null check (quantity > 0),
    cents int not null, bought_at timestamptz not null default now(), step_key text not null);
  create index on purchases (buyer);
  -- Written by the transaction of the step itself: a step is in here exactly when it has happened.
  create table done_steps (key text primary key, result jsonb, done_at timestamptz not null default now());`

/** Categories, and what is in them. */
const things: Readonly<Record<string, readonly string[]>> = {
  Books: ['atlas', 'cookery book', 'songbook', 'novel in three volumes'],
  Cameras: ['field camera', 'box camera', 'slide projector', 'light meter'],
  Clocks: ['mantel clock', 'pocket watch', 'alarm clock', 'hourglass'],
  Garden: ['watering can', 'sundial', 'wheelbarrow', 'weather vane'],
  Lamps: ['desk lamp', 'lantern', 'candlestick', 'floor lamp'],
  Maps: ['globe', 'sea chart', 'city map', 'compass'],
  Music: ['flute', 'accordion', 'metronome', 'music box'],
  Pottery: ['teapot', 'vase', 'fruit bowl', 'jug'],
  Radios: ['valve radio', 'crystal set', 'loudspeaker', 'morse key'],
  Toys: ['tin train', 'spinning top', 'puppet theatre', 'kite'],
}
const categories = Object.keys(things)
const adjectives = ['Small', 'Old', 'Green', 'Painted', 'Folding', 'Brass', 'Travelling', 'Heavy', 'Rare', 'Plain', 'Repaired', 'Unused']
const tales = [
  'Found in an attic, cleaned, and in good order.', 'Some traces of use, which suit it.', 'It comes in its first box.',
  'Tested for a week; nothing is missing.', 'A present that was never opened.', 'Bought thirty years ago, and looked after since.',
]
const itemsPerCategory = 12
const sellers = 10
const seededSalt = 'auction'

/** How passwords are kept: scrypt, with a cost that suits an example. */
export const passwordHash = (password: string, salt: string): string => `${salt}:${scryptSync(password, salt, 32, { N: 1024 }).toString('hex')}`

/** Accounts of emulated users, and of people who try the pages. */
export const accountName = (i: number): string => `user-${i + 1}`
/** Everybody's password: there is nothing here to protect. */
export const accountPassword = 'auction'

export interface SeedOptions {
  /** Accounts named `user-1` and so on, all with the password `auction`. */
  readonly accounts: number
  readonly seed: number
}

/** Makes the tables and fills them: the same for the same seed. */
export async function makeTables(client: ClientBase, { accounts, seed }: SeedOptions): Promise<void> {
  const random = new Random(seed).fork('items')
  await client.query(tables)
  const names = [...Array.from({ length: sellers }, (_, i) => `seller-${i + 1}`), ...Array.from({ length: accounts }, (_, i) => accountName(i))]
  const password = passwordHash(accountPassword, seededSalt)
  await client.query('insert into users (name, password) select name, $2 from unnest($1::text[]) with ordinality as n (name, i) order by i', [names, password])
  await client.query('insert into categories (name) select name from unnest($1::text[]) with ordinality as n (name, i) order by i', [categories])
  const items = categories.flatMap((_, category) => Array.from({ length: itemsPerCategory }, () => seededItem(random, category + 1)))
  await client.query(
    `insert into items (seller, category, title, description, start_cents, buy_now_cents, initial_stock, stock)
     select seller, category, title, description, start, "buyNow", stock, stock
     from jsonb_to_recordset($1) as i (seller int, category int, title text, description text, start int, "buyNow" int, stock int)`,
    [JSON.stringify(items)],
  )
}

function seededItem(random: Random, category: number): object {
  const start = random.integer(2, 80) * 50
  const thing = random.pick(things[categories[category - 1] as string] as readonly string[])
  const tale = random.integer(0, tales.length - 1)
  const description = `${tales[tale]} ${tales[(tale + random.integer(1, tales.length - 1)) % tales.length]}`
  return {
    seller: random.integer(1, sellers), category, title: `${random.pick(adjectives)} ${thing}`, description,
    start, buyNow: random.chance(0.6) ? start * random.integer(2, 4) : null, stock: random.integer(3, 40),
  }
}
