/** The steps of a visit that change the database: each happens exactly once, however often it is run. */
import type { ClientBase, Pool } from 'pg'
import type { BoughtLine, CartLine, Step, StepResult } from '../application/visit.js'

export interface StepRun {
  readonly result: StepResult
  /** It had been committed before: by whoever was interrupted after that, or still runs. */
  readonly wasDone: boolean
}

export interface StepOptions {
  /** For demonstrations only: runs a step again although it has been done. */
  readonly ignoresKeys?: boolean
}

/** The step's key in the database. Keys come from browsers: an account's own cannot collide with another's. */
export const stepKey = ({ user, key }: Pick<Step, 'user' | 'key'>): string => `${user}:${key}`

/**
 * Runs the step, or finds that it has been run. Its key is written first: who runs the same step meanwhile waits there
 * until this transaction has ended, and is told its result.
 * @throws what the database says; then nothing has happened, or all of it has, and the same step may be run again
 */
export async function runStep(pool: Pool, step: Step, { ignoresKeys = false }: StepOptions = {}): Promise<StepRun> {
  const client = await pool.connect()
  const key = stepKey(step)
  // The database may end the connection between two statements: the next one says so.
  const ended = (): void => undefined
  client.on('error', ended)
  let isWell = false
  try {
    await client.query('begin')
    const { rowCount } = await client.query('insert into done_steps (key) values ($1) on conflict do nothing', [key])
    if (rowCount === 0 && !ignoresKeys) {
      const { rows } = await client.query<{ result: StepResult }>('select result from done_steps where key = $1', [key])
      await client.query('rollback')
      isWell = true
      return { result: (rows[0] as { result: StepResult }).result, wasDone: true }
    }
    const result = await perform(client, step)
    await client.query('update done_steps set result = $2 where key = $1', [key, JSON.stringify(result)])
    await client.query('commit')
    isWell = true
    return { result, wasDone: false }
  } finally {
    client.off('error', ended)
    // A connection in doubt is closed, which ends its transaction as well.
    client.release(!isWell)
  }
}

async function perform(client: ClientBase, step: Step): Promise<StepResult> {
  switch (step.kind) {
    case 'bid':
      return placeBid(client, step)
    case 'checkout':
      return checkOut(client, step)
    case 'sell': {
      const { user, title, description, category, startCents, buyNowCents } = step
      const { rows } = await client.query<{ id: number }>(
        `insert into items (seller, category, title, description, start_cents, buy_now_cents, initial_stock, stock, step_key)
         values ($1, $2, $3, $4, $5, $6, 1, 1, $7) returning id`,
        [user, category, title, description, startCents, buyNowCents, stepKey(step)],
      )
      return { kind: 'sell', item: (rows[0] as { id: number }).id }
    }
  }
}

async function placeBid(client: ClientBase, step: Extract<Step, { kind: 'bid' }>): Promise<StepResult> {
  // The item's row stands for its history: two bids on it come one after the other.
  const { rows } = await client.query<{ start: number }>('select start_cents as start from items where id = $1 and ends_at > now() for update', [step.item])
  if (rows[0] === undefined) return { kind: 'bid', isAccepted: false, highestCents: 0 }
  const highest = await client.query<{ cents: number | null }>('select max(cents) as cents from bids where item = $1', [step.item])
  const highestCents = highest.rows[0]?.cents ?? rows[0].start - 1
  if (step.cents <= highestCents) return { kind: 'bid', isAccepted: false, highestCents }
  await client.query('insert into bids (item, bidder, cents, step_key) values ($1, $2, $3, $4)', [step.item, step.user, step.cents, stepKey(step)])
  return { kind: 'bid', isAccepted: true, highestCents: step.cents }
}

async function checkOut(client: ClientBase, step: Extract<Step, { kind: 'checkout' }>): Promise<StepResult> {
  const lines: BoughtLine[] = []
  // In one order for all, so that no two wait for each other.
  for (const line of step.lines.toSorted((a, b) => a.item - b.item)) lines.push(await buy(client, step, line))
  return { kind: 'checkout', lines }
}

async function buy(client: ClientBase, step: Step, { item, quantity }: CartLine): Promise<BoughtLine> {
  const { rows } = await client.query<{ each: number }>(
    'update items set stock = stock - $2 where id = $1 and stock >= $2 and buy_now_cents is not null returning buy_now_cents as each', [item, quantity])
  const cents = (rows[0]?.each ?? 0) * quantity
  if (rows[0]) await client.query('insert into purchases (item, buyer, quantity, cents, step_key) values ($1, $2, $3, $4, $5)', [item, step.user, quantity, cents, stepKey(step)])
  return { item, quantity, cents, isBought: rows[0] !== undefined }
}
