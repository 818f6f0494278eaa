/** Whether an HTTP server is slower because its connections are continuable: pairs of runs, one of such a server and one of the same without, in a random order. */
import { join } from 'node:path'
import { Random } from '../../fabric/mock/random.js'
import { createRegion } from '../../region/region.js'
import { BenchChild } from './children.js'
import { HttpConnection } from './http-client.js'
import type { BenchReport } from './report.js'
import { figure } from './report.js'
import { bootstrapInterval, distributionOf, sorted, type Distribution, type Interval } from './statistics.js'
import { withFolder } from './watched-file.js'

/** What the server runs: nothing but a handler, or Express with a body parser and a router. */
export type ContinuableApplication = 'bare' | 'express'

export interface ContinuableBenchOptions {
  readonly application: ContinuableApplication
  readonly pairs: number
  readonly requests: number
  readonly connections?: number
}

export interface ContinuableBenchResult {
  readonly application: ContinuableApplication
  readonly pairs: number
  readonly requests: number
  readonly connections: number
  readonly plain: { readonly requestsPerSecond: Distribution; readonly cpuUs: Distribution }
  readonly continuable: { readonly requestsPerSecond: Distribution; readonly cpuUs: Distribution }
  /** Continuable by plain, of each pair, with the interval that holds the mean with 95% confidence. */
  readonly throughputRatio: Interval
  /** Plain by continuable, of the processor time that the server's process took for a request: what other processes do hardly changes it. */
  readonly cpuRatio: Interval
}

interface Run {
  readonly requestsPerSecond: number
  readonly cpuUs: number
}

const head = 'GET /items?page=1 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: application/json\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n'
const request = Buffer.from(`${head}\r\n`)
const usage = Buffer.from(`${head.replace('/items?page=1', '/cpu')}\r\n`)

export async function benchContinuable({ application, pairs, requests, connections = 16 }: ContinuableBenchOptions, progress: (text: string) => void): Promise<ContinuableBenchResult> {
  return withFolder(async (folder) => {
    const path = join(folder, 'region')
    createRegion(path, 'bench', 'bench', { boxCount: 2, sensorsPerBox: 4, sessionsPerBox: 1024, heapBytes: 8 << 20 }).memory.close()
    const children: BenchChild[] = []
    const start = async (kind: string): Promise<number> => {
      const { child, said } = await BenchChild.start('http', kind, path, application)
      children.push(child)
      return Number(said)
    }
    try {
      const ports = { plain: await start('plain'), continuable: await start('continuable') }
      const runs: Record<keyof typeof ports, Run[]> = { plain: [], continuable: [] }
      const run = (port: number): Promise<Run> => load(port, requests, connections)
      // The compilers are done with both before anything counts.
      for (const port of Object.values(ports)) await run(port)
      const random = new Random(1)
      for (let pair = 0; pair < pairs; pair++) {
        progress(`pair ${pair + 1} of ${pairs}`)
        const order = random.chance(0.5) ? (['plain', 'continuable'] as const) : (['continuable', 'plain'] as const)
        for (const kind of order) runs[kind].push(await run(ports[kind]))
      }
      const ratio = (of: (plain: Run, own: Run) => number): Interval => bootstrapInterval(runs.plain.map((plain, i) => of(plain, runs.continuable[i] as Run)), random)
      return {
        application, pairs, requests, connections, plain: figuresOf(runs.plain), continuable: figuresOf(runs.continuable),
        throughputRatio: ratio((plain, own) => own.requestsPerSecond / plain.requestsPerSecond),
        cpuRatio: ratio((plain, own) => plain.cpuUs / own.cpuUs),
      }
    } finally {
      for (const child of children) await child.end()
    }
  })
}

function figuresOf(runs: readonly Run[]): ContinuableBenchResult['plain'] {
  const of = (pick: (run: Run) => number): Distribution => distributionOf(sorted(Float64Array.from(runs, pick)))
  return { requestsPerSecond: of(({ requestsPerSecond }) => requestsPerSecond), cpuUs: of(({ cpuUs }) => cpuUs) }
}

async function load(port: number, requests: number, connections: number): Promise<Run> {
  const before = Number(await ask(port, usage, 1))
  const startMs = performance.now()
  await Promise.all(Array.from({ length: connections }, () => ask(port, request, Math.ceil(requests / connections))))
  const elapsedMs = performance.now() - startMs
  const count = Math.ceil(requests / connections) * connections
  return { requestsPerSecond: (count / elapsedMs) * 1000, cpuUs: (Number(await ask(port, usage, 1)) - before) / count }
}

/** Asks so many times over one connection, each time after the answer. @returns the last body */
async function ask(port: number, bytes: Buffer, times: number): Promise<string> {
  const connection = await HttpConnection.open(port)
  let body = ''
  for (let i = 0; i < times; i++) body = await connection.request(bytes)
  connection.close()
  return body
}

export function continuableReport(result: ContinuableBenchResult): BenchReport {
  const kinds = ['plain', 'continuable'] as const
  const interval = ({ mean, low, high }: Interval): string => `${mean.toFixed(3)} (${low.toFixed(3)} to ${high.toFixed(3)})`
  return {
    tables: [
      { head: ['server', 'requests/s p50', 'CPU µs/request p50'], rows: kinds.map((kind) => [kind, figure(result[kind].requestsPerSecond.p50), figure(result[kind].cpuUs.p50)]) },
      { head: ['continuable by plain', 'mean (95%)', 'goal'], rows: [['throughput', interval(result.throughputRatio), '≥ 0.95'], ['requests per CPU second', interval(result.cpuRatio), '≥ 0.95']] },
    ],
    result: { continuable: result },
    history: kinds.flatMap((kind) => [
      { name: `continuable/${result.application}/${kind}/throughput`, unit: 'requests/s', distribution: result[kind].requestsPerSecond },
      { name: `continuable/${result.application}/${kind}/cpu`, unit: 'µs', distribution: result[kind].cpuUs },
    ]),
  }
}
