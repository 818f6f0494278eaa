/** The last question, put to every server that answers: what do you have of each session? */
import { setTimeout as sleep } from 'node:timers/promises'
import { Connection, type ServerAddress } from './connection.js'
import type { Holder, SessionLedger } from './ledger.js'
import type { Answer } from './protocol.js'

/** Requests under way at one server: as many at once as its clients would make, and no flood. */
const outstanding = 20
const pauseMs = 150
/** A recovery that goes on meanwhile is waited for so long, in milliseconds. */
const patienceMs = 8000

export interface AuditOptions {
  readonly servers: readonly ServerAddress[]
  readonly ledgers: readonly SessionLedger[]
  /** Counts the recoveries and handovers seen so far. A session on its way is with nobody for a moment, or seen twice. */
  readonly movements: () => number
}

/** Asks until everything stands still, and lets the ledgers judge what was found then. */
export async function audit({ servers, ledgers, movements }: AuditOptions): Promise<void> {
  const deadlineMs = performance.now() + patienceMs
  for (;;) {
    const before = movements()
    const holders = await holdersOf(servers, ledgers)
    await sleep(pauseMs)
    const isSettled = movements() === before && ledgers.every(({ acknowledged }, i) => acknowledged === 0 || holders[i]?.length !== 0)
    if (!isSettled && performance.now() < deadlineMs) continue
    for (const [i, ledger] of ledgers.entries()) ledger.audit(holders[i] ?? [])
    return
  }
}

/** @returns for each ledger, who has its session */
async function holdersOf(servers: readonly ServerAddress[], ledgers: readonly SessionLedger[]): Promise<Holder[][]> {
  const answers = await Promise.all(servers.map(async (server) => ({ node: server.node, answers: await askAll(server, ledgers) })))
  return ledgers.map((_, i) => answers.flatMap(({ node, answers: ofServer }) => holding(node, ofServer[i])))
}

/** @returns an answer for each ledger; none where the server is gone or stays silent */
function askAll(server: ServerAddress, ledgers: readonly SessionLedger[]): Promise<(Answer | undefined)[]> {
  return new Promise((resolve) => {
    const answers: (Answer | undefined)[] = ledgers.map(() => undefined)
    let next = 0
    let left = ledgers.length
    const askNext = (): void => {
      const session = ledgers[next]?.session
      if (session !== undefined) connection.send({ kind: 'show', id: next++, session })
    }
    const connection = new Connection(
      server,
      (answer) => {
        answers[answer.id] = answer
        if (--left === 0) connection.close()
        else askNext()
      },
      () => {
        clearTimeout(timer)
        resolve(answers)
      },
    )
    const timer = setTimeout(() => connection.close(), patienceMs)
    for (let i = 0; i < outstanding; i++) askNext()
  })
}

function holding(node: string, answer: Answer | undefined): Holder[] {
  if (answer?.kind === 'ok') return [{ node, state: answer.state }]
  return answer?.kind === 'broken' ? [{ node, state: { broken: answer.code } }] : []
}
