/** One frame of `backdoors top`. Pure: what the daemon said, and the size of the terminal, become text. */
import type { Incident } from '../../daemon/incidents.js'
import type { DaemonStatus, Gauge, PeerStatus } from '../../daemon/status.js'
import type { ObservedBox, ObservedSensor } from '../../monitor/verdict.js'
import { printable } from '../inspect/text.js'
import { formatUs } from '../quantities.js'
import type { Beats, Pulses } from './pulses.js'

export interface FrameSize {
  /** In characters and lines. */
  readonly width: number
  readonly height: number
}

type Tone = 'plain' | 'good' | 'warn' | 'bad' | 'soft' | 'head'

/** A piece of a line, in one tone. */
interface Piece {
  readonly text: string
  readonly tone: Tone
}

type Line = readonly Piece[]

const codes: Readonly<Record<Tone, string>> = { plain: '', good: '32', warn: '33', bad: '1;31', soft: '2', head: '1' }
const blocks = '▁▂▃▄▅▆▇█'
const pulseWidth = 16
const piece = (text: string, tone: Tone = 'plain'): Piece => ({ text: printable(text), tone })

/** @param colours whether the terminal is told of them; words and marks say the same without */
export function renderFrame(status: DaemonStatus, pulses: Pulses, { width, height }: FrameSize, colours: boolean): string {
  const head = headOf(status)
  const incidents = [...status.incidents].reverse()
  const body = [...status.peers.flatMap((peer) => [[], ...linesOfPeer(peer, pulses)]), ...(status.peers.length === 0 ? [[], [piece('watches nobody', 'soft')]] : [])]
  // Incidents are what one looks for: they keep a third of the screen, and more where the sensors leave it.
  const room = Math.max(0, height - head.length)
  const wanted = incidents.length === 0 ? 2 : Math.min(2 + 2 * incidents.length, Math.max(4, Math.ceil(room / 3), room - body.length))
  const shownBody = cut(body, Math.max(0, room - wanted))
  const foot = footOf(incidents, room - shownBody.length)
  return [...head, ...shownBody, ...foot].slice(0, height).map((line) => paint(line, width, colours)).join('\n')
}

function headOf({ node, cluster, fabric, fenced, servers, waitingSessions, peers }: DaemonStatus): Line[] {
  const alive = peers.filter((peer) => wordOn(peer) === 'alive').length
  return [
    [piece(`node ${node}`, 'head'), piece(` of cluster ${cluster}, over ${fabric}`), ...(fenced ? [piece('  FENCED', 'bad')] : [])],
    [piece(`peers alive ${alive} of ${peers.length}`, alive === peers.length ? 'good' : 'bad'), piece(` · servers here: ${servers.join(', ') || 'none'} · waiting sessions ${waitingSessions}`)],
  ]
}

const isFailed = ({ exited, sensors }: ObservedBox): boolean => exited || sensors.some(({ stalled }) => stalled)

/** The verdict on a peer, or what is more to the point. */
function wordOn({ connected, verdict, servers = [] }: PeerStatus): string {
  if (!connected && verdict === 'alive') return 'not connected'
  return verdict === 'alive' && servers.some(isFailed) ? 'server failed' : verdict
}

const wordTones: Readonly<Record<string, Tone>> = { alive: 'good', left: 'soft', 'not connected': 'soft', 'server failed': 'warn', 'daemon-stalled': 'warn', 'daemon-lost': 'warn', 'link-cut': 'warn' }

function linesOfPeer(peer: PeerStatus, pulses: Pulses): Line[] {
  const { peer: name, seen, osSensor, servers = [], gauges = [], meanRoundTripUs, roundTripUs, rounds, failedRounds, maxLatenessUs } = peer
  const word = wordOn(peer)
  const tone = wordTones[word] ?? 'bad'
  const mark = { good: '✓', soft: '?', warn: '!' }[tone as string] ?? '✕'
  const figures = rounds === undefined ? '' : `  rtt ${roundTripUs ? `p50 ${formatUs(roundTripUs.p50)}, p99 ${formatUs(roundTripUs.p99)}` : formatUs(meanRoundTripUs ?? 0)} · ${rounds} rounds, ${failedRounds ?? 0} failed · late ≤ ${formatUs(maxLatenessUs ?? 0)}`
  const lines: Line[] = [[piece(`${mark} ${name.padEnd(12)} ${word.padEnd(14)}`, tone), piece(figures, 'soft')]]
  if (tone !== 'good') lines.push([piece(`    ${seen}`, tone === 'soft' ? 'soft' : 'plain')])
  if (osSensor) lines.push(lineOfSensor(peer, undefined, osSensor, pulses))
  for (const server of servers) for (const sensor of server.sensors) lines.push(lineOfSensor(peer, server, sensor, pulses))
  for (const owner of new Set(gauges.map(({ server }) => server))) lines.push(...linesOfGauges(owner, gauges.filter(({ server }) => server === owner)))
  return lines
}

const gaugesPerLine = 3

/** What is measured of the machine or of one server, each beside its limit; ! where it is past that. */
function linesOfGauges(owner: string | undefined, gauges: readonly Gauge[]): Line[] {
  const lines: Line[] = []
  for (let first = 0; first < gauges.length; first += gaugesPerLine) {
    const shown = gauges.slice(first, first + gaugesPerLine).map(({ sensor, value, limit }) => {
      const isPast = value > limit
      return piece(fit(`${isPast ? '! ' : ''}${sensor} ${amount(sensor, value)} of ${amount(sensor, limit)}`, 38), isPast ? 'warn' : 'soft')
    })
    lines.push([piece(`    ${fit(first === 0 ? (owner ?? 'machine') : '', 14)} `), ...shown])
  }
  return lines
}

/** Three digits that count; of bytes, in the greatest unit that fits. A sensor's name ends in its unit. */
function amount(sensor: string, value: number): string {
  const unit = sensor.endsWith('-bytes') && value > 0 ? Math.min(4, Math.floor(Math.log2(value) / 10)) : 0
  const shown = String(Number((value / 1024 ** unit).toPrecision(3)))
  return sensor.endsWith('-bytes') ? `${shown} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][unit] ?? ''}` : sensor.endsWith('-pct') ? `${shown}%` : shown
}

function lineOfSensor({ peer }: PeerStatus, server: ObservedBox | undefined, sensor: ObservedSensor, pulses: Pulses): Line {
  const state = server?.exited ? 'GONE' : sensor.stalled ? 'STALLED' : sensor.pending === 0 ? 'idle' : 'moves'
  const tone: Tone = state === 'moves' ? 'good' : state === 'idle' ? 'soft' : 'bad'
  const label = fit(`${server?.name ?? 'machine'} ${sensor.name}`, 26)
  const age = `${formatUs(sensor.ageUs)} ago`
  return [piece(`    ${label} `), piece(sparkline(pulses.of(peer, server?.box, sensor.name)), tone), piece(` ${state.padEnd(8)}`, tone), piece(`${age.padStart(12)} of ${formatUs(sensor.deadlineUs)}`, 'soft')]
}

/** How far a counter moved from frame to frame, to the sensor's own scale: ✕ where it was past its deadline, · where it had nothing to do. */
export function sparkline(beats: readonly Beats[], width = pulseWidth): string {
  const last = beats.slice(-width)
  const most = Math.max(1, ...last.map(({ moved }) => moved ?? 0))
  const marks = last.map(({ moved, stalled, idle }) => {
    if (stalled) return '✕'
    if (moved === undefined) return ' '
    if (moved === 0) return idle ? '·' : '_'
    return blocks[Math.min(blocks.length - 1, Math.floor((moved / most) * blocks.length))] as string
  })
  return marks.join('').padStart(width)
}

function footOf(incidents: readonly Incident[], room: number): Line[] {
  if (incidents.length === 0) return [[], [piece('no incidents', 'soft')]]
  const lines = incidents.flatMap(linesOfIncident)
  return [[], [piece(`incidents (${incidents.length})`, 'head')], ...cut(lines, Math.max(0, room - 2))]
}

const outcomeTones: Readonly<Partial<Record<Incident['outcome'], Tone>>> = { standing: 'bad', failed: 'bad', recovering: 'warn' }

function linesOfIncident({ peer, server, startedAt, verdicts, outcome, steps, suspectedAtMs, lastMovedAtMs, sessions, lost, error }: Incident): Line[] {
  const whom = server === undefined ? peer : `${server} on ${peer}`
  const moments = [...(lastMovedAtMs === undefined ? [] : [{ step: 'moved', atMs: lastMovedAtMs }]), { step: 'suspected', atMs: suspectedAtMs }, ...steps.filter(({ step }) => step !== 'suspected')]
  const story = moments.map(({ step, atMs }, i) => (i === 0 ? step : `${step} +${formatUs((atMs - (moments[i - 1]?.atMs ?? atMs)) * 1000)}`)).join(' → ')
  const [first, last] = [moments[0], moments.at(-1)]
  const counts = sessions && first && last ? ` in ${formatUs((last.atMs - first.atMs) * 1000)}: ${sessions.adopted} adopted, ${lost ?? 0} lost` : ''
  return [
    [piece(`  ${startedAt.slice(11, 19)} `, 'soft'), piece(`${whom}: ${verdicts.at(-1)?.verdict ?? ''}`), piece(`  ${outcome}`, outcomeTones[outcome] ?? 'good'), piece(counts)],
    [piece(`    ${story}`, 'soft'), ...(error ? [piece(`  ${error.code}`, 'bad')] : [])],
  ]
}

/** As many lines as there is room for; the last of them says how many more there are. */
function cut(lines: readonly Line[], room: number): readonly Line[] {
  if (lines.length <= room) return lines
  if (room <= 0) return []
  return [...lines.slice(0, room - 1), [piece(`    … ${lines.length - room + 1} lines more`, 'soft')]]
}

const fit = (text: string, width: number): string => {
  const characters = Array.from(printable(text))
  return characters.length <= width ? characters.join('').padEnd(width) : `${characters.slice(0, width - 1).join('')}…`
}

/** A line never wraps, which would push down all others. What is wide in it (some scripts are) is for the screen to cut. */
function paint(line: Line, width: number, colours: boolean): string {
  let left = width
  const parts: string[] = []
  for (const { text, tone } of line) {
    const characters = Array.from(text)
    const shown = characters.slice(0, left).join('')
    left -= Math.min(left, characters.length)
    if (shown !== '') parts.push(colours && codes[tone] ? `\x1b[${codes[tone]}m${shown}\x1b[0m` : shown)
  }
  return colours ? parts.join('') : parts.join('').trimEnd()
}
