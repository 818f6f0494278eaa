/**
 * How fast sessions come out of another machine's memory, beside what `ib_read_bw` moves between the same two guests. On one machine that
 * emulates them both, either varies by more than they differ: so they take turns, and each extraction is held against the bandwidth before
 * and after it.
 *
 * What is measured is `readSessions`, as a recovery calls it: index, records, CRCs. What counts are the payloads alone. The first extraction
 * finds nothing prepared: no memory is registered, no code has run. It stands by itself, for such is a daemon's first recovery; the goal is of the
 * others, as ib_read_bw, too, has registered its memory before it takes the time.
 */
import { AnsweringProcess } from '../answering-process.js'
import type { ExtractedAnswer, ExtractorArguments } from '../extract/extractor.js'
import type { SessionsPlan } from '../extract/sessions.js'
import type { Guest } from '../guest.js'
import { guestProgram, type GuestProgram } from '../guest-programs.js'
import { requireTools } from '../host-tools.js'
import type { Scenario, ScenarioResult } from '../scenario.js'
import { medianOf } from '../spread.js'
import { measure, parseBandwidth } from './perftest.js'

const plan: SessionsPlan = { sessions: 10_000, sessionBytes: 4096 }
/** As many bytes, in messages of 64 KiB. */
const bandwidthArguments = ['-s', '65536', '-n', '640']
const bytesPerMiB = 2 ** 20
/** Of the median ratio. */
const goal = 0.85
/**
 * A goal that is missed is reported, one that is missed by this factor is a failure: an emulated machine is noisy, and its one processor takes
 * CRCs a hundred times as slowly as a real one, between the packets that it has to take in as well.
 */
const margin = 3
/** Emulated, an extraction takes a second or two; loaded, several times as long. */
const answerTimeoutMs = 120_000

interface Round {
  /** In MiB/s, as perftest counts. */
  readonly extractMiBps: number
  readonly answer: ExtractedAnswer
}

/** Code is optimized while it runs, unlike other programs': what is measured takes long enough for that. */
async function start(guest: Guest, program: GuestProgram, argument: unknown): Promise<AnsweringProcess> {
  return new AnsweringProcess(await guest.spawn([...guestProgram(program, '--opt'), JSON.stringify(argument)]), answerTimeoutMs)
}

/** @returns the process that extracts what `lender` holds, connected */
async function connect(lender: AnsweringProcess, at: Guest): Promise<AnsweringProcess> {
  const { box } = JSON.parse(await lender.next()) as { box: number }
  const extractor = await start(at, 'ci/extract/extractor', { ...plan, box } satisfies ExtractorArguments)
  await extractor.ask(await lender.ask(await extractor.next()))
  return extractor
}

async function extract(extractor: AnsweringProcess): Promise<Round> {
  const answer = JSON.parse(await extractor.ask('extract')) as ExtractedAnswer
  return { answer, extractMiBps: (plan.sessions * plan.sessionBytes) / bytesPerMiB / (answer.ms / 1000) }
}

const isWhole = ({ answer: { found, right, damaged } }: Round): boolean => found === plan.sessions && right === plan.sessions && damaged === 0

const rounded = (value: number): number => Number(value.toFixed(3))

/** @param readMiBps before each round, and after the last */
function resultOf(all: readonly Round[], readMiBps: readonly number[]): ScenarioResult {
  const ratios = all.map(({ extractMiBps }, i) => extractMiBps / medianOf(readMiBps.slice(i, i + 2)))
  const [firstRatio, ...others] = ratios as [number, ...number[]]
  const [first, ...rounds] = all as [Round, ...Round[]]
  const medianRatio = medianOf(others)
  const wrong = all.filter((round) => !isWhole(round)).map(({ answer: { found, right, damaged } }) => ({ found, right, damaged }))
  return {
    ok: wrong.length === 0 && medianRatio >= goal / margin, medianRatio: rounded(medianRatio), goal: `>= ${goal}`, met: medianRatio >= goal,
    failsBeyond: `the goal missed by a factor of ${margin}`, ...plan, verified: wrong.length === 0, wrong, rounds: rounds.length, ratios: others.map(rounded),
    extractMiBps: rounds.map(({ extractMiBps }) => rounded(extractMiBps)), ibReadBwMiBps: readMiBps.map(rounded),
    extractCpuMs: rounds.map(({ answer: { cpuMs } }) => Math.round(cpuMs)), firstRatio: rounded(firstRatio), firstMiBps: rounded(first.extractMiBps),
  }
}

export const extractRate: Scenario = {
  name: 'extract-rate',
  summary: '10,000 sessions of 4 KiB read out of another guest, by turns with ib_read_bw between the same two',
  defaultTrials: 5,
  async run({ boot, log, trials }): Promise<ScenarioResult> {
    await requireTools(['ib_read_bw'])
    const [dead, recoverer] = await boot(['dead', 'recoverer'], { memoryMiB: 768 })
    const lender = await start(dead, 'ci/extract/lender', plan)
    const extractor = await connect(lender, recoverer)
    const bandwidth = async (): Promise<number> => parseBandwidth(await measure(recoverer, dead, 'ib_read_bw', bandwidthArguments)).averageMBps
    const [readMiBps, rounds] = [[await bandwidth()], [] as Round[]]
    for (let round = 0; round <= trials; round += 1) {
      rounds.push(await extract(extractor))
      readMiBps.push(await bandwidth())
      log(`${round === 0 ? 'the first, which does not count' : `round ${round}`}: ${rounds.at(-1)?.extractMiBps.toFixed(1)} MiB/s beside ${readMiBps.slice(-2).map((each) => each.toFixed(1)).join(' and ')}`)
    }
    await extractor.end()
    await lender.end()
    return resultOf(rounds, readMiBps)
  },
}
