#!/usr/bin/env node
/** `npm run sim -- …`: whole clusters in virtual time, under faults of every kind. See `--help`, and `docs/simulation.md`. */
import { availableParallelism } from 'node:os'
import { Command, InvalidArgumentError, Option } from 'commander'
import { canaries, type Canary } from '../safeguards.js'
import { runScenario, type Outcome } from './run.js'
import { faultKinds, type FaultKind } from './scenario.js'
import { runSeeds } from './seeds.js'
import { shrink } from './shrink.js'
import { storyOf } from './story.js'

interface SimOptions {
  readonly seed: number
  readonly seeds: number
  readonly nodes?: number
  readonly sessions?: number
  readonly faults?: readonly FaultKind[]
  readonly canary?: Canary
  readonly jobs: number
  readonly json?: true
  readonly story?: true
  readonly shrink: boolean
}

const exitCodes = { ok: 0, broken: 1, usage: 2 } as const

const wholeNumber = (min: number, max: number) => (text: string): number => {
  const value = Number(text)
  if (!/^\d+$/.test(text) || value < min || value > max) throw new InvalidArgumentError(`give a whole number from ${min} to ${max}`)
  return value
}

function kindsOf(text: string): FaultKind[] {
  return text.split(',').map((name) => {
    const kind = faultKinds.find((each) => each === name)
    if (kind === undefined) throw new InvalidArgumentError(`${name} is none of ${faultKinds.join(', ')}`)
    return kind
  })
}

function summaryLine({ scenario, ok, hash, virtualMs, faults, recoveries, joined, left, commits, excused, violations }: Outcome): string {
  const { seed, nodes, sessions } = scenario
  return JSON.stringify({ seed, ok, nodes, sessions, faults, recoveries, joined, left, commits, excused, virtualMs, hash, violations })
}

const print = (line: string): void => void process.stdout.write(`${line}\n`)
const note = (line: string): void => void process.stderr.write(`${line}\n`)

async function tell(outcome: Outcome, options: SimOptions): Promise<void> {
  if (options.json) print(summaryLine(outcome))
  if (options.story && outcome.story.length > 0) note(storyOf(outcome))
  if (outcome.ok) return
  if (!options.shrink) return note(storyOf(outcome))
  const { outcome: smaller, runs } = await shrink(outcome, (scenario) => runScenario(scenario))
  note(`seed ${outcome.scenario.seed} fails; made smaller in ${runs} runs:\n${storyOf(smaller)}`)
}

/** Failures are told of in full so often; of those after them, which seeds they were. */
const toldInFull = 3

async function run(options: SimOptions): Promise<number> {
  const startedMs = performance.now()
  const failed: number[] = []
  const sums = { faults: 0, recoveries: 0, joined: 0, left: 0, commits: 0, excused: 0, virtualMs: 0 }
  const { nodes, sessions, faults: kinds, canary } = options
  const scenario = { ...(nodes && { nodes }), ...(sessions && { sessions }), ...(kinds && { kinds }), ...(canary && { canary }) }
  for await (const outcome of runSeeds({ first: options.seed, count: options.seeds, scenario, jobs: options.story ? 1 : options.jobs })) {
    if (!outcome.ok) failed.push(outcome.scenario.seed)
    for (const key of Object.keys(sums) as (keyof typeof sums)[]) sums[key] += outcome[key]
    if (failed.length <= toldInFull || options.json) await tell(outcome, failed.length <= toldInFull ? options : { ...options, shrink: false })
  }
  const seconds = (performance.now() - startedMs) / 1000
  const summary = { ok: failed.length === 0, seeds: options.seeds, failed, ...sums, seconds: Number(seconds.toFixed(1)) }
  if (options.json) print(JSON.stringify(summary))
  else print(`${options.seeds} seeds, ${failed.length} failed${failed.length > 0 ? ` (${failed.slice(0, 20).join(', ')})` : ''}: ${sums.faults} faults, ${sums.recoveries} recoveries, ${sums.joined} nodes joined, ${sums.left} left, ${sums.commits} commits acknowledged in ${(sums.virtualMs / 1000).toFixed(0)} s of virtual time, ${seconds.toFixed(1)} s of real time`)
  return summary.ok ? exitCodes.ok : exitCodes.broken
}

const program = new Command('sim')
  .description('Simulates whole clusters on a mock fabric in virtual time, under faults of every kind. Checks after every event that no session is served twice, none is in a state that nobody tried to commit, and nobody is fenced without a verdict; at each verdict that it is true; at each read that it is no older than what was acknowledged; and whenever all has been well for a while, and in the end, that no acknowledged session is lost and everybody is watched. Exits with 0 where all of that held, 1 where it did not, 2 for bad usage.')
  .option('--seed <n>', 'the first seed; the same seed is the same run, bit for bit', wholeNumber(0, Number.MAX_SAFE_INTEGER), 1)
  .option('--seeds <count>', 'how many seeds to run, one after another', wholeNumber(1, 100_000_000), 1)
  .option('--nodes <k>', 'nodes of each cluster (default: 3 to 5, by the seed)', wholeNumber(2, 26))
  .option('--sessions <count>', 'sessions of each cluster, each with a client (default: 12)', wholeNumber(1, 32))
  .option('--faults <list>', `only these kinds of faults: ${faultKinds.join(',')}`, kindsOf)
  .addOption(new Option('--canary <safeguard>', 'switch a safeguard off, to see that it is missed').choices(canaries))
  .option('--jobs <n>', 'threads', wholeNumber(1, 256), availableParallelism())
  .option('--json', 'a line for each seed on stdout, and a summary as the last')
  .option('--story', 'tell what happened also where all was well')
  .option('--no-shrink', 'do not make failing scenarios smaller')
  .exitOverride((error) => process.exit(error.exitCode === 0 ? exitCodes.ok : exitCodes.usage))
  .action(async (options: SimOptions) => {
    process.exitCode = await run(options)
  })

await program.parseAsync()
