/**
 * Emulated users, a process of its own. Its first argument is a `UsersArguments` as JSON. Says `{"event":"working"}` when all
 * have logged in, `{"event":"finding"}` at once when a story does not stay true, and takes one word a line on its standard
 * input: `stop` (finish, audit the database, print the judgement, end).
 */
import { createInterface } from 'node:readline'
import { Random } from '../../../src/fabric/mock/random.js'
import { accountName, accountPassword } from '../database/schema.js'
import { sayer } from '../events.js'
import { audit } from './audit.js'
import { readRows } from './audit-rows.js'
import { EmulatedUser } from './emulated-user.js'
import type { Address, HttpAnswer, Retries } from './http-client.js'
import { judgeUsers } from './judgement.js'

export interface UsersArguments {
  /** The front tier, or all application nodes. User number i begins at address i modulo their number. */
  readonly addresses: readonly Address[]
  /** Without: clients that have no retry code at all; each has one connection. */
  readonly retries?: Retries
  readonly users: number
  readonly seed: number
  readonly thinkMs: number
  /** For the audit: postgresql://… */
  readonly database: string
}

/** Between the first requests of two users, in milliseconds. */
const rampMs = 15
const say = sayer()

async function main({ addresses, retries, users, seed, thinkMs, database }: UsersArguments): Promise<void> {
  const random = new Random(seed)
  const answers: { waitedMs: number; sentAgain: number }[] = []
  const told = new Map<EmulatedUser, number>()
  let isWorking = false
  const all = Array.from({ length: users }, (_, i) => {
    const at = i % addresses.length
    const client = { addresses: [...addresses.slice(at), ...addresses.slice(0, at)], ...(retries ? { retries } : {}) }
    const user: EmulatedUser = new EmulatedUser({ name: accountName(i), password: accountPassword, client, thinkMs, random: random.fork(accountName(i)), onAnswer: (answer) => onAnswer(user, answer) })
    return user
  })
  const onAnswer = (user: EmulatedUser, { waitedMs, sentAgain }: HttpAnswer): void => {
    answers.push({ waitedMs, sentAgain })
    if (!isWorking && all.every(({ ledger }) => ledger.isLoggedIn)) {
      isWorking = true
      say('working', { users })
    }
    const { findings } = user.ledger
    for (const finding of findings.slice(told.get(user) ?? 0)) say('finding', { ...finding })
    told.set(user, findings.length)
  }
  for (const [i, user] of all.entries()) user.start(i * rampMs)
  for await (const line of createInterface({ input: process.stdin })) if (line === 'stop') break
  await Promise.all(all.map((user) => user.stop()))
  const ledgers = all.map(({ ledger }) => ledger)
  const rows = await readRows(database)
  const faults = audit(ledgers, rows)
  say('judged', judgeUsers({ ledgers, rows, faults, answers, connections: all.reduce((sum, { connections }) => sum + connections, 0) }))
  process.exit(0)
}

await main(JSON.parse(process.argv[2] ?? '{}') as UsersArguments)
