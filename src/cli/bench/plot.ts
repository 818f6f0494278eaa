/** Draws distributions as an SVG picture with vega, which is optional: nothing else of the program needs it. */
import { writeFileSync } from 'node:fs'
import type * as Vega from 'vega'
import { BackdoorsError } from '../../errors.js'
import { quantile } from './statistics.js'

export interface PlottedSeries {
  /** Series of one panel share its axes; panels are drawn in the order they come. */
  readonly panel: string
  readonly name: string
  readonly ascending: Float64Array
  /** What each sample is multiplied by for the axis, e.g. 1e-3 from nanoseconds to microseconds. */
  readonly scale: number
}

export interface Plot {
  readonly title: string
  /** Of the values, with their unit. */
  readonly axis: string
  readonly series: readonly PlottedSeries[]
}

interface Point {
  readonly panel: string
  readonly name: string
  /** How many times rarer than all: 1 / (1 - fraction). 2 is the median, 100 the 99th percentile. */
  readonly rarity: number
  readonly value: number
}

const columns = 3
const panelWidth = 260
const panelHeight = 200
const pointsPerDecade = 24

/** @throws BackdoorsError INVALID_ARGUMENT where vega is not installed, which says how to install it */
export async function plotToFile(path: string, plot: Plot): Promise<void> {
  const { View, parse } = await loadVega()
  const view = new View(parse(specOf(plot)), { renderer: 'none' })
  writeFileSync(path, await view.toSVG())
  view.finalize()
}

async function loadVega(): Promise<typeof Vega> {
  try {
    return await import('vega')
  } catch (cause) {
    throw new BackdoorsError('INVALID_ARGUMENT', '--plot needs the package vega, which is not installed: "npm install vega".', { field: '--plot', cause })
  }
}

/** Points of the curve "so rare a sample is so large", down to the rarest: the largest of all. */
export function curveOf({ panel, name, ascending, scale }: PlottedSeries): Point[] {
  const steps = Math.ceil(Math.log10(Math.max(ascending.length, 1)) * pointsPerDecade)
  return Array.from({ length: steps + 1 }, (_, step) => {
    const rarity = step === steps ? ascending.length : 10 ** (step / pointsPerDecade)
    return { panel, name, rarity, value: quantile(ascending, 1 - 1 / rarity) * scale }
  })
}

const percentileLabel = "datum.value === 2 ? 'p50' : datum.value === 1 ? 'min' : 'p' + format((1 - 1 / datum.value) * 100, '~f')"
const axisStyle = { grid: true, gridOpacity: 0.4 } as const

function specOf({ title, axis, series }: Plot): Vega.Spec {
  const panels = [...new Set(series.map(({ panel }) => panel))]
  const names = [...new Set(series.map(({ name }) => name))]
  const curve = {
    x: { scale: 'x', field: 'rarity' }, y: { scale: 'y', field: 'value' }, stroke: { scale: 'colour', field: 'name' }, strokeWidth: { value: 1.5 },
  } as const
  return {
    $schema: 'https://vega.github.io/schema/vega/v6.json',
    background: 'white',
    padding: 10,
    title: { text: title },
    data: [{ name: 'points', values: series.flatMap(curveOf) }],
    scales: [{ name: 'colour', type: 'ordinal', domain: names, range: 'category' }],
    legends: [{ stroke: 'colour', orient: 'bottom', direction: 'horizontal', symbolType: 'stroke' }],
    layout: { columns: Math.min(columns, panels.length), padding: 50, bounds: 'full', align: 'all' },
    marks: panels.map((panel, index) => ({
      type: 'group',
      encode: { enter: { width: { value: panelWidth }, height: { value: panelHeight } } },
      title: { text: panel },
      data: [{ name: `panel${index}`, source: 'points', transform: [{ type: 'filter', expr: `datum.panel === ${JSON.stringify(panel)}` }] }],
      scales: [
        { name: 'x', type: 'log', domain: { data: 'points', field: 'rarity' }, range: [0, panelWidth] },
        { name: 'y', type: 'log', domain: { data: `panel${index}`, field: 'value' }, range: [panelHeight, 0], nice: true },
      ],
      axes: [
        { orient: 'bottom', scale: 'x', values: [1, 2, 10, 100, 1000, 10_000, 100_000], encode: { labels: { update: { text: { signal: percentileLabel } } } }, ...axisStyle },
        { orient: 'left', scale: 'y', title: axis, format: '~s', tickCount: 5, ...axisStyle },
      ],
      marks: [{
        type: 'group',
        from: { facet: { name: 'curve', data: `panel${index}`, groupby: 'name' } },
        marks: [{ type: 'line', from: { data: 'curve' }, encode: { enter: curve } }],
      }],
    })),
  }
}
