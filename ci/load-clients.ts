/**
 * Runs in a guest: clients of the example servers, each with a ledger of its own. Its first argument is a
 * `LoadArguments` as JSON. Says `{"event":"made"}` when all sessions are made and acknowledged, and takes one word
 * a line on its standard input: `fail NODE` (it failed just now), `gone NODE` (its machine is no more, so it is not asked in
 * the end), `count` (says `{"event":"count","acknowledged":N}`, as of now), `stop` (audit, print the judgement, end).
 */
import { createInterface } from 'node:readline'
import { SessionClient, type ServerAddress } from '../src/cli/demo/client.js'
import { Connection } from '../src/cli/demo/connection.js'
import { SessionLedger, type violations, type Holder } from '../src/cli/demo/ledger.js'
import type { Answer } from '../src/cli/demo/protocol.js'
import { Random } from '../src/fabric/mock/random.js'

export interface LoadArguments {
  readonly servers: readonly ServerAddress[]
  /** Sessions, all made at the first server. */
  readonly sessions: number
  /** What the names of the sessions begin with; `s` by default. */
  readonly prefix?: string
  readonly seed: number
  readonly thinkMs: number
  readonly silenceMs: number
}

/** What the ledgers say in the end. */
export interface LoadJudgement {
  readonly event: 'judged'
  readonly sessions: number
  /** Of the failed node's sessions, those that another node has served since. */
  readonly recovered: number
  readonly lost: number
  readonly servedTwice: number
  readonly invented: number
  readonly acknowledged: number
  readonly findings: readonly string[]
}

const patienceMs = 20_000
const say = (event: object): void => void process.stdout.write(`${JSON.stringify(event)}\n`)

async function main({ servers, sessions, prefix = 's', seed, thinkMs, silenceMs }: LoadArguments): Promise<void> {
  const random = new Random(seed)
  const ledgers = Array.from({ length: sessions }, (_, i) => new SessionLedger(`${prefix}${i}`))
  let recovered = 0
  const clients = ledgers.map((ledger, i) =>
    new SessionClient({
      servers, ledger, thinkMs, silenceMs, random: random.fork(`client ${i}`), nowMs: () => performance.now(),
      onServed: () => {
        if (made < sessions && ledgers.every(({ acknowledged }) => acknowledged > 0)) say({ event: 'made' })
        made = ledgers.filter(({ acknowledged }) => acknowledged > 0).length
        const now = ledgers.filter(({ recovery }) => recovery !== undefined).length
        if (now > recovered && now === sessions) say({ event: 'all-recovered' })
        recovered = now
      },
    }),
  )
  let made = 0
  const gone = new Set<string>()
  for (const [i, client] of clients.entries()) client.start(i * 5)
  for await (const line of createInterface({ input: process.stdin })) {
    const [word, node] = line.split(' ')
    if (word === 'fail' && node) for (const ledger of ledgers) ledger.fail(node)
    if (word === 'gone' && node) gone.add(node)
    if (word === 'count') say({ event: 'count', acknowledged: acknowledgedBy(ledgers) })
    if (word === 'stop') break
  }
  await Promise.all(clients.map((client) => client.stop(patienceMs)))
  const asked = servers.filter((server) => !gone.has(server.node))
  for (const ledger of ledgers) ledger.audit(await holdersOf(ledger.session, asked, patienceMs))
  const findings = ledgers.flatMap((ledger) => ledger.findings.map(({ what }) => what))
  const count = (violation: (typeof violations)[number]): number => ledgers.filter((ledger) => ledger.has(violation)).length
  const judgement: LoadJudgement = {
    event: 'judged', sessions, recovered, lost: count('lost'), servedTwice: count('servedTwice'), invented: count('invented'),
    acknowledged: acknowledgedBy(ledgers), findings: findings.slice(0, 20),
  }
  say(judgement)
  for (const client of clients) client.close()
}

const acknowledgedBy = (ledgers: readonly SessionLedger[]): number => ledgers.reduce((sum, ledger) => sum + ledger.acknowledged, 0)

/** Every server that answers is asked what it has of the session. */
async function holdersOf(session: string, servers: readonly ServerAddress[], silenceMs: number): Promise<Holder[]> {
  const answers = await Promise.all(servers.map(async (server) => ({ node: server.node, answer: await show(server, session, silenceMs) })))
  return answers.flatMap(({ node, answer }): Holder[] => {
    if (answer?.kind === 'ok') return [{ node, state: answer.state }]
    return answer?.kind === 'broken' ? [{ node, state: { broken: answer.code } }] : []
  })
}

function show(server: ServerAddress, session: string, silenceMs: number): Promise<Answer | undefined> {
  return new Promise((resolve) => {
    const finish = (answer: Answer | undefined): void => {
      clearTimeout(timer)
      resolve(answer)
      connection.close()
    }
    const timer = setTimeout(() => finish(undefined), silenceMs)
    const connection = new Connection(server, finish, () => finish(undefined))
    connection.send({ kind: 'show', id: 1, session })
  })
}

await main(JSON.parse(process.argv[2] ?? '{}') as LoadArguments)
