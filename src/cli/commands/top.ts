/** `backdoors top`: nodes, sensors, verdicts, round trips and incidents, live. */
import { setTimeout } from 'node:timers/promises'
import { InvalidArgumentError, type Command } from 'commander'
import type { DaemonStatus } from '../../daemon/status.js'
import { isBackdoorsError } from '../../errors.js'
import { askDaemon } from '../ask-daemon.js'
import type { Output } from '../output.js'
import { addRegionOptions, regionPathOf, type RegionOptions } from '../region-option.js'
import { renderFrame } from '../top/frame.js'
import { Pulses } from '../top/pulses.js'
import { Screen, type TerminalInput, type TerminalOutput } from '../top/screen.js'

const examples = `
Examples:
  backdoors top --config /etc/backdoors.yaml
  backdoors top --region /dev/shm/backdoors-a --once
  backdoors top --config a.yaml --json --interval 500

On a terminal it redraws in place until q is pressed. Elsewhere it prints one frame after another, and with --once
a single one. A pulse shows how far a sensor's counter moved from frame to frame, to its own scale: _ where it did not,
· where it had nothing to do, ✕ where it was past its deadline. With --json each frame is one line, the daemon's own status.`

/** Asks the daemon, until the signal says that nobody wants to know any more. */
export type Ask = (signal?: AbortSignal) => Promise<DaemonStatus>

interface TopOptions extends RegionOptions {
  readonly once?: boolean
  readonly json?: boolean
  /** In milliseconds. */
  readonly interval: number
}

const endingSignals = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const
const leastIntervalMs = 50
const firstPulseMs = 200
/** For a frame that is printed, and not drawn. */
const printed = { width: 120, height: Infinity }

export function registerTop(program: Command, output: Output): void {
  addRegionOptions(program.command('top'))
    .description('the cluster as this machine sees it, live')
    .option('--interval <ms>', 'time between two frames, in milliseconds', parseInterval, 1000)
    .option('--once', 'one frame, then end')
    .option('--json', 'each frame as one JSON object on stdout')
    .addHelpText('after', examples)
    .action(async ({ once, json, interval, ...options }: TopOptions) => {
      const region = await regionPathOf(options)
      const ask: Ask = async (signal) => (await askDaemon(region, 'status', {}, signal)) as DaemonStatus
      const terminal = output.stdout as TerminalOutput
      if (json) await printJson(ask, once === true, interval, output)
      else if (once) await printOnce(ask, output)
      else if (terminal.isTTY) await drawUntilQuit(ask, interval, terminal, process.stdin)
      else await printOn(ask, interval, output)
    })
}

function parseInterval(text: string): number {
  const ms = Number(text)
  if (!(ms >= leastIntervalMs && ms <= 3_600_000)) throw new InvalidArgumentError(`It must be a number of milliseconds from ${leastIntervalMs} to 3600000.`)
  return ms
}

/** Two looks: how a sensor moves is seen by nothing less. */
async function printOnce(ask: Ask, output: Output): Promise<void> {
  const pulses = new Pulses()
  pulses.add(await ask())
  await setTimeout(firstPulseMs)
  printFrame(await ask(), pulses, output)
}

async function printOn(ask: Ask, intervalMs: number, output: Output): Promise<void> {
  const pulses = new Pulses()
  while (output.stdout.writable) {
    printFrame(await ask(), pulses, output)
    output.line('')
    await setTimeout(intervalMs)
  }
}

function printFrame(status: DaemonStatus, pulses: Pulses, output: Output): void {
  pulses.add(status)
  output.line(renderFrame(status, pulses, printed, false))
}

async function printJson(ask: Ask, once: boolean, intervalMs: number, output: Output): Promise<void> {
  while (output.stdout.writable) {
    output.json(await ask())
    if (once) return
    await setTimeout(intervalMs)
  }
}

/**
 * A daemon that ends meanwhile is waited for: who looks wants to see it come back. One that was never there is an error.
 * @throws BackdoorsError DAEMON_UNAVAILABLE
 */
export async function drawUntilQuit(ask: Ask, intervalMs: number, terminal: TerminalOutput, input: TerminalInput): Promise<void> {
  const pulses = new Pulses()
  let status = await ask()
  let foot = 'q quits'
  const draw = (): void => {
    const { width, height } = screen.size
    screen.draw(`${renderFrame(status, pulses, { width, height: height - 1 }, true)}\n\x1b[2m${foot.slice(0, width)}\x1b[0m`)
  }
  const ending = new AbortController()
  const end = (): void => ending.abort()
  const screen = new Screen(terminal, input, draw, end)
  // The terminal has to be given back however this ends.
  for (const signal of endingSignals) process.on(signal, end)
  try {
    while (!ending.signal.aborted) {
      pulses.add(status)
      draw()
      await unlessEnded(setTimeout(intervalMs, undefined, { signal: ending.signal }), ending.signal)
      if (ending.signal.aborted) break
      const answer = await unlessEnded(ask(ending.signal), ending.signal)
      foot = answer === undefined ? 'the daemon does not answer: this is the last it said · q quits' : 'q quits'
      status = answer ?? status
    }
  } finally {
    for (const signal of endingSignals) process.off(signal, end)
    screen.close()
  }
}

/** @returns undefined where that comes first, or no daemon is there */
function unlessEnded<T>(promise: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const end = (): void => resolve(undefined)
    signal.addEventListener('abort', end, { once: true })
    const answer = promise.catch((error: unknown) => {
      if (signal.aborted || isBackdoorsError(error, 'DAEMON_UNAVAILABLE')) return undefined
      throw error
    })
    answer.then(resolve, reject).finally(() => signal.removeEventListener('abort', end))
  })
}
