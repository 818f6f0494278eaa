/**
 * Two nodes on this machine, a Redis on each, and clients that write to the first. It is killed, or hangs; the second node
 * recovers its keys, and its Redis serves them. The clients' own books say whether anything that was acknowledged is missing.
 *
 *     node dist/examples/redis/run.js [--failure kill|stop] [--clients 40] [--writes 5000]
 *
 * Exit status 0 where nothing is missing, 1 where something is.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { setTimeout as sleepMs } from 'node:timers/promises'
import { startDaemon, type Daemon } from 'backdoors'
import { Ledger, type Verdict } from './ledger.js'
import { compileModule, startRedis, type RedisServer } from './servers.js'

export interface Options {
  /** `kill`: SIGKILL. `stop`: SIGSTOP, and SIGCONT when its keys are served elsewhere. */
  readonly failure: 'kill' | 'stop'
  readonly clients: number
  /** Acknowledged writes before the failure. */
  readonly writes: number
  readonly say: (line: string) => void
}

export interface Outcome extends Verdict {
  readonly adopted: number
  /** From the failure to the moment when the second Redis had all keys. */
  readonly tookMs: number
  /** How the first Redis ended: the signal, or the exit status of a server that was fenced. */
  readonly firstEnded: number | NodeJS.Signals | null
  readonly ok: boolean
}

/** Of the event loop's sensor: longer than the longest command may take. A process that is gone is seen without it. */
const deadlines = { kill: 10_000, stop: 2000 }

export async function run({ failure, clients, writes, say }: Options): Promise<Outcome> {
  const folder = mkdtempSync('/dev/shm/backdoors-redis-')
  const closers: (() => Promise<void>)[] = []
  const daemon = async (node: string, peer: string): Promise<Daemon> => {
    const region = { path: `${folder}/${node}`, boxes: 3, sessionsPerBox: 4096, heapBytes: 16 << 20 }
    const started = await startDaemon({ node, log: 'silent', region, peers: [{ name: peer, region: `${folder}/${peer}` }] })
    closers.push(() => started.close())
    return started
  }
  const redis = async (node: string, module: string): Promise<RedisServer> => {
    const started = await startRedis(folder, node, module, `${folder}/${node}`, deadlines[failure])
    closers.push(() => started.close())
    return started
  }
  try {
    const module = compileModule(folder)
    await daemon('a', 'b')
    const b = await daemon('b', 'a')
    const [first, second] = [await redis('a', module), await redis('b', module)]
    while (!b.status().peers[0]?.servers?.some(({ name, sensors }) => name === 'redis' && sensors.length > 0)) await sleepMs(5)
    say(`Two nodes, a redis-server on each; ${clients} clients write to the one on a.`)
    return await fail(first, second, b, { failure, clients, writes, say })
  } finally {
    for (const close of closers.reverse()) await close()
    rmSync(folder, { recursive: true, force: true })
  }
}

async function fail(first: RedisServer, second: RedisServer, b: Daemon, { failure, clients, writes, say }: Options): Promise<Outcome> {
  const ledger = new Ledger(clients)
  const recovered = new Promise<number>((resolve) => b.once('recovered', ({ adopted }) => resolve(adopted)))
  let failedAtMs = 0
  const written = ledger.write(() => first.connect(), () => {
    if (failedAtMs > 0 || ledger.acknowledged < writes) return
    failedAtMs = performance.now()
    first.process.kill(failure === 'kill' ? 'SIGKILL' : 'SIGSTOP')
  })
  const adopted = await recovered
  while (b.status().waitingSessions > 0) await sleepMs(1)
  const tookMs = Math.round(performance.now() - failedAtMs)
  say(`The Redis on a ${failure === 'kill' ? 'was killed' : 'hangs'} after ${ledger.acknowledged} acknowledged writes; ${tookMs} ms later the one on b had its ${adopted} keys.`)
  // One that only hung wakes up, finds itself fenced, and ends without a word to its clients.
  if (failure === 'stop') first.process.kill('SIGCONT')
  const firstEnded = await first.gone
  await written
  const verdict = await ledger.judge(second.client)
  const ok = verdict.wrong.length === 0 && firstEnded === (failure === 'kill' ? 'SIGKILL' : 3)
  say(`${verdict.right} of ${verdict.keys} keys are what their clients were told. The Redis on a ended by ${String(firstEnded)}.`)
  for (const line of verdict.wrong.slice(0, 20)) say(`  wrong: ${line}`)
  return { ...verdict, adopted, tookMs, firstEnded, ok }
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({ options: { failure: { type: 'string', default: 'kill' }, clients: { type: 'string', default: '40' }, writes: { type: 'string', default: '5000' } } })
  const failure = values.failure === 'stop' ? 'stop' : 'kill'
  const { ok } = await run({ failure, clients: Number(values.clients), writes: Number(values.writes), say: console.log })
  process.exitCode = ok ? 0 : 1
}
