/**
 * Runs in the other guest: reads the sessions as a recovery does. Its argument is an `ExtractorArguments` as JSON. It prints its
 * endpoints, takes what the lender answered them, and then, for each line, reads all sessions and prints an `ExtractedAnswer`.
 */
import { createInterface } from 'node:readline'
import { decode, encode } from '../../hwtests/peer-protocol.js'
import { VerbsConnector, VerbsDevice, type Acceptance } from '../../src/fabric/verbs/index.js'
import { ReadArena } from '../../src/region/read-arena.js'
import { readHeader, readSessions } from '../../src/region/region-reader.js'
import { answerTimeout, readTimeoutMs } from '../link-times.js'
import { PlannedSessions, type SessionsPlan } from './sessions.js'

export interface ExtractorArguments extends SessionsPlan {
  readonly box: number
}

export interface ExtractedAnswer {
  readonly ms: number
  /** Of the whole process, on all its threads. */
  readonly cpuMs: number
  readonly found: number
  /** Those among them that are one of the planned, whole; and what was found beside them. */
  readonly right: number
  readonly damaged: number
}

const { box, ...plan } = JSON.parse(process.argv[2] ?? '{}') as ExtractorArguments
const planned = new PlannedSessions(plan)
const print = (value: unknown): void => void process.stdout.write(`${encode(value)}\n`)
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const next = async (): Promise<string | undefined> => (await lines.next()).value as string | undefined

const device = VerbsDevice.open({ device: 'rxe0' })
const connector = new VerbsConnector({ device, peer: 'lender', timeoutMs: readTimeoutMs, queuePairs: { timeout: answerTimeout } })
print(connector.endpoints)
const { endpoints, windows } = decode((await next()) ?? '{}') as Acceptance
const { sampling, recovery } = connector.connect(endpoints, windows)
const header = await readHeader(recovery)
// As a daemon has one for its recoveries.
const arena = new ReadArena()
print({ ready: true })
while ((await next()) !== undefined) print(await extract())
await recovery.close()
await sampling.close()
device.close()

async function extract(): Promise<ExtractedAnswer> {
  arena.reset()
  const before = process.cpuUsage()
  const startMs = performance.now()
  const { sessions, expired, corrupt } = await readSessions(recovery, header, box, undefined, undefined, arena)
  const ms = performance.now() - startMs
  const { user, system } = process.cpuUsage(before)
  const stale = sessions.filter((session) => session.stale).length
  return { ms, cpuMs: (user + system) / 1000, found: sessions.length, right: planned.countRight(sessions), damaged: expired + corrupt + stale }
}
