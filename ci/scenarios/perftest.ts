/**
 * The rig's own baseline: latency and bandwidth of RDMA READs between two guests by the tools everybody knows. Whatever
 * the project measures on the rig is to be read beside these figures.
 */

import type { Guest } from '../guest.js'
import { requireTools } from '../host-tools.js'
import type { Scenario } from '../scenario.js'

export interface LatencyFigures {
  readonly iterations: number
  readonly minUs: number
  readonly maxUs: number
  readonly typicalUs: number
  readonly p99Us: number
}

export interface BandwidthFigures {
  readonly iterations: number
  readonly averageMBps: number
  readonly messagesPerSecond: number
}

/** The row under `#bytes #iterations t_min[usec] t_max[usec] t_typical[usec] t_avg[usec] t_stdev[usec] 99% 99.9%`. */
export function parseLatency(output: string): LatencyFigures {
  const [, iterations, minUs, maxUs, typicalUs, , , p99Us] = numbersUnder(output, /#bytes\s+#iterations\s+t_min/, 9)
  return { iterations: iterations!, minUs: minUs!, maxUs: maxUs!, typicalUs: typicalUs!, p99Us: p99Us! }
}

/** The row under `#bytes #iterations BW peak[MB/sec] BW average[MB/sec] MsgRate[Mpps]`. */
export function parseBandwidth(output: string): BandwidthFigures {
  const [, iterations, , averageMBps, millionsPerSecond] = numbersUnder(output, /#bytes\s+#iterations\s+BW peak/, 5)
  return { iterations: iterations!, averageMBps: averageMBps!, messagesPerSecond: Math.round(millionsPerSecond! * 1e6) }
}

function numbersUnder(output: string, heading: RegExp, count: number): number[] {
  const lines = output.split('\n')
  const row = lines[lines.findIndex((line) => heading.test(line)) + 1] ?? ''
  const numbers = row.trim().split(/\s+/).map(Number)
  if (!heading.test(output) || numbers.length < count || numbers.some(Number.isNaN)) {
    throw new Error(`no figures in the output of perftest:\n${output}`)
  }
  return numbers
}

/**
 * Runs one perftest program as server on `server` and as client on `client`; returns what the client printed. Output comes
 * line by line (`stdbuf`), because there the server says that it is ready.
 */
export async function measure(client: Guest, server: Guest, program: string, args: readonly string[]): Promise<string> {
  const common = ['stdbuf', '-oL', program, '-d', 'rxe0', '-F', ...args]
  const listener = await server.spawn([...common, '-x', String(server.gidIndex)])
  await listener.waitForLine(/Waiting for client to connect/)
  const output = await client.check([...common, '-x', String(client.gidIndex), server.ip], { timeoutMs: 120_000 })
  await listener.result(10_000)
  return output
}

export const perftest: Scenario = {
  name: 'perftest',
  summary: 'ib_read_lat and ib_read_bw between two guests: what the rig itself can do',
  async run({ boot, log, trials }) {
    await requireTools(['ib_read_lat', 'ib_read_bw'])
    const [server, client] = await boot(['server', 'client'])
    const latency: LatencyFigures[] = []
    const bandwidth: BandwidthFigures[] = []
    for (let trial = 1; trial <= trials; trial += 1) {
      latency.push(parseLatency(await measure(client, server, 'ib_read_lat', ['-s', '8', '-n', '1000'])))
      bandwidth.push(parseBandwidth(await measure(client, server, 'ib_read_bw', ['-s', '65536', '-n', '200'])))
      log(`trial ${trial}: typical ${latency.at(-1)?.typicalUs} us, ${bandwidth.at(-1)?.averageMBps} MB/s`)
    }
    return { ok: true, latency, bandwidth }
  },
}
