/**
 * The measuring process of the scenario `read-latency`. It opens its target once, prints `{"ready":…}`, and then takes a
 * measurement for each line on standard input: a request as JSON in, figures as JSON out.
 */
import { createInterface } from 'node:readline'
import { measureLatency, type Tier } from '../../src/cli/bench/latency.js'
import { distributionOf, sorted, type Distribution } from '../../src/cli/bench/statistics.js'
import { measureThroughput, type ThroughputPlan } from '../../src/cli/bench/throughput.js'
import { openVerbsTarget } from '../../src/cli/bench/verbs-target.js'

export type MeasureRequest =
  | { readonly kind: 'latency'; readonly tier: Tier; readonly size: number; readonly iterations: number; readonly warmUp: number }
  | { readonly kind: 'throughput'; readonly plan: ThroughputPlan; readonly warmUpCalls: number }

export interface LatencyAnswer {
  readonly ns: Distribution
  /** Of the awaited reads that went by the event channel; null where none did. */
  readonly byEventNs: Distribution | null
}

export interface ThroughputAnswer {
  readonly readsPerSecond: number
  readonly megabytesPerSecond: number
}

/** A failure ends the process, with its reason on stderr. */
async function main(): Promise<void> {
  const target = await openVerbsTarget({ apart: true })
  const print = (value: unknown): void => void process.stdout.write(`${JSON.stringify(value)}\n`)
  print({ ready: true, device: target.device, responder: target.responder })
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line) as MeasureRequest
    if (request.kind === 'throughput') {
      const { readsPerSecond, megabytesPerSecond } = await measureThroughput(target, request.plan, request.warmUpCalls)
      print({ readsPerSecond, megabytesPerSecond } satisfies ThroughputAnswer)
      continue
    }
    const read = target.prepare([{ offset: 0, length: request.size }])
    const samples = await measureLatency(read, request.tier, request.iterations, request.warmUp)
    read.close()
    if (samples === undefined) throw new Error(`there is no ${request.tier} tier on ${target.device}`)
    const events = samples.ns.filter((_, index) => samples.byEvent[index] === 1)
    print({ ns: distributionOf(sorted(samples.ns)), byEventNs: events.length === 0 ? null : distributionOf(sorted(events)) } satisfies LatencyAnswer)
  }
  await target.close()
}

await main()
