/**
 * How fast a vmcore is made, beside what `ib_read_bw` moves between the same two guests. On one machine that emulates them all, both
 * vary by more than they differ: so they take turns, and each part of the vmcore is held against the bandwidth before and after it.
 */
import type { Guest } from '../guest.js'
import { medianOf } from '../spread.js'
import { measure, parseBandwidth } from './perftest.js'

export interface VmcoreRate {
  /** What the command printed at its end. */
  readonly output: string
  /** Of each round, in MiB/s, as `ib_read_bw` counts. */
  readonly partMBps: readonly number[]
  /** Before each round, and after the last. */
  readonly readMBps: readonly number[]
  /** Of each round, to the mean of the bandwidth before and after. */
  readonly ratios: readonly number[]
  readonly medianRatio: number
}

const rounds = 4
/** `--progress` prints a line for each tenth: a round is the second of two. */
const percentPerRound = 20
const timeoutMs = 300_000

/**
 * @param at the guest that makes the vmcore, and reads @param from the guest that lends the memory
 * @param command makes the vmcore, with `--progress`
 */
export async function measureVmcore(at: Guest, from: Guest, command: readonly string[]): Promise<VmcoreRate> {
  const bandwidth = async (): Promise<number> => parseBandwidth(await measure(at, from, 'ib_read_bw', ['-s', '65536', '-n', '500'])).averageMBps
  const [readMBps, partMBps] = [[await bandwidth()], [] as number[]]
  const vmcore = await at.spawn(command)
  for (let round = 1; round <= rounds; round++) {
    const percent = round * percentPerRound
    await vmcore.waitForLine(new RegExp(`copying: ${percent - 10} %`), timeoutMs)
    const startedMs = performance.now()
    const [, size, unit] = await vmcore.waitForLine(new RegExp(`copying: ${percent} % of ([\\d.]+) (MiB|GiB)`), timeoutMs)
    partMBps.push((Number(size) * (unit === 'GiB' ? 1024 : 1) * 0.1) / ((performance.now() - startedMs) / 1000))
    // Between two reads: it must not take part in what is measured now.
    vmcore.kill('SIGSTOP')
    readMBps.push(await bandwidth())
    vmcore.kill('SIGCONT')
  }
  const { code, stdout } = await vmcore.result(timeoutMs)
  if (code !== 0) throw vmcore.failure(`ended with ${code}`)
  const ratios = partMBps.map((part, i) => part / (((readMBps[i] as number) + (readMBps[i + 1] as number)) / 2))
  return { output: stdout, partMBps: partMBps.map(round3), readMBps: readMBps.map(round3), ratios: ratios.map(round3), medianRatio: round3(medianOf(ratios)) }
}

const round3 = (value: number): number => Math.round(value * 1000) / 1000
