/** Draws clients' requests over time, as they passed the switch, around a failure. */
import { writeFile } from 'node:fs/promises'
import { parse, View, type Spec } from 'vega'
import type { ObservedRequest } from './segments.js'

export interface TakeoverPicture {
  readonly requests: readonly ObservedRequest[]
  /** As `performance.now()` tells it. */
  readonly failedAtMs: number
  /** What happened when, in milliseconds since the failure. */
  readonly marks: readonly { readonly text: string; readonly atMs: number }[]
  readonly failed: string
}

const beforeMs = 4000
/** The picture ends so long after the last wait. */
const afterwardsMs = 1500
const shownClients = 24
const [width, rowHeight] = [860, 13] as const

export async function drawTakeover(path: string, picture: TakeoverPicture): Promise<void> {
  const view = new View(parse(specOf(picture)), { renderer: 'none' })
  await writeFile(path, await view.toSVG())
  view.finalize()
}

function specOf({ requests, failedAtMs, marks, failed }: TakeoverPicture): Spec {
  const ports = [...new Set(requests.map(({ port }) => port))]
  const shown = new Map(ports.filter((_, i) => i % Math.ceil(ports.length / shownClients) === 0).map((port, row) => [port, `client ${row + 1}`]))
  const firstAnswers = new Map<number, number>()
  for (const { port, toMs } of requests) if (toMs > failedAtMs && !firstAnswers.has(port)) firstAnswers.set(port, toMs - failedAtMs)
  const afterMs = Math.max(...firstAnswers.values(), 0) + afterwardsMs
  const bars = requests.flatMap(({ port, fromMs, toMs, by }) => {
    const [from, to, client] = [fromMs - failedAtMs, toMs - failedAtMs, shown.get(port)]
    return client === undefined || to < -beforeMs || from > afterMs ? [] : [{ client, from: Math.max(from, -beforeMs), to: Math.min(to, afterMs), by: by === failed ? 'answered by the host that failed' : 'answered by the other one' }]
  })
  const height = shown.size * rowHeight
  const span = { x: { scale: 'x', field: 'from' }, x2: { scale: 'x', field: 'to' }, y: { scale: 'y', field: 'client' }, height: { scale: 'y', band: 1 }, fill: { scale: 'colour', field: 'by' } } as const
  const rules = [{ text: 'its kernel panics', atMs: 0 }, ...marks].map((mark, i) => ({ ...mark, y: -8 - 14 * i }))
  return {
    $schema: 'https://vega.github.io/schema/vega/v6.json', background: 'white', padding: 12, width, height,
    title: { text: 'Requests of clients, each on one TCP connection, while their server\'s machine panics', offset: 14 * rules.length + 12 },
    data: [{ name: 'bars', values: bars }, { name: 'rules', values: rules }],
    scales: [
      { name: 'x', type: 'linear', domain: [-beforeMs, afterMs], range: 'width' },
      { name: 'y', type: 'band', domain: [...shown.values()], range: 'height', padding: 0.25 },
      { name: 'colour', type: 'ordinal', domain: ['answered by the host that failed', 'answered by the other one'], range: ['#8a8a8a', '#2a7f45'] },
    ],
    axes: [
      { orient: 'bottom', scale: 'x', title: 'milliseconds since the panic; each bar is a request, from its first byte to its answer\'s', grid: true, gridOpacity: 0.4 },
      { orient: 'left', scale: 'y', ticks: false, domain: false, labelFontSize: 8 },
    ],
    legends: [{ fill: 'colour', orient: 'bottom', direction: 'horizontal', labelLimit: 400 }],
    marks: [
      { type: 'rect', from: { data: 'bars' }, encode: { enter: span } },
      { type: 'rule', from: { data: 'rules' }, encode: { enter: { x: { scale: 'x', field: 'atMs' }, y: { field: 'y' }, y2: { value: height }, stroke: { signal: "datum.atMs === 0 ? '#b3392c' : '#1d4e89'" }, strokeWidth: { value: 1.2 } } } },
      { type: 'text', from: { data: 'rules' }, encode: { enter: { x: { scale: 'x', field: 'atMs', offset: 4 }, y: { field: 'y', offset: 6 }, text: { field: 'text' }, fontSize: { value: 11 }, fill: { signal: "datum.atMs === 0 ? '#b3392c' : '#1d4e89'" } } } },
    ],
  }
}
