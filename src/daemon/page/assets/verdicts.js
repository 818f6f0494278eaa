/** How each verdict looks: a colour, and, for who does not see that, a shape, a mark and the word itself. */
import { html, svg } from './dom.js'

const looks = {
  alive: ['good', 'circle', '✓'],
  left: ['none', 'circle', '–'],
  'not connected': ['none', 'circle', '?'],
  'not watched from here': ['none', 'circle', ''],
  'this node': ['self', 'circle', ''],
  'daemon-stalled': ['warn', 'triangle', '!'],
  'daemon-lost': ['warn', 'triangle', '!'],
  'app-stalled': ['warn', 'triangle', '!'],
  'app-exited': ['warn', 'triangle', '!'],
  'a server failed': ['warn', 'triangle', '!'],
  'os-stalled': ['bad', 'square', '✕'],
  'os-panicked': ['bad', 'square', '✕'],
  unreachable: ['bad', 'diamond', '✕'],
  'link-cut': ['warn', 'diamond', '!'],
}

/** A verdict that this page does not know yet is shown by its word. */
export function lookOf(verdict) {
  const [tone, shape, mark] = looks[verdict] ?? ['warn', 'triangle', '!']
  return { tone, shape, mark }
}

export const badge = (tone, text) => html('span', { class: `badge ${tone}` }, text)

const isFailed = ({ exited, sensors }) => exited || sensors.some(({ stalled }) => stalled)

/** The one word on a peer: its verdict, or what is more to the point. */
export function wordOn(peer) {
  if (peer === undefined) return 'not watched from here'
  if (!peer.connected && peer.verdict === 'alive') return 'not connected'
  return peer.verdict === 'alive' && peer.servers?.some(isFailed) ? 'a server failed' : peer.verdict
}

/** A node's outline of half-width `r` around `x`, `y`. */
export function outline(shape, x, y, r) {
  const points = (list) => svg('polygon', { class: 'shape', points: list.map(([dx, dy]) => `${x + dx * r},${y + dy * r}`).join(' '), 'stroke-linejoin': 'round' })
  if (shape === 'square') return svg('rect', { class: 'shape', x: x - r * 0.88, y: y - r * 0.88, width: r * 1.76, height: r * 1.76, rx: r * 0.16 })
  if (shape === 'triangle') return points([[0, -1.15], [1.12, 0.8], [-1.12, 0.8]])
  if (shape === 'diamond') return points([[0, -1.2], [1.2, 0], [0, 1.2], [-1.2, 0]])
  return svg('circle', { class: 'shape', cx: x, cy: y, r })
}

export function legend() {
  const samples = [['alive', 'alive'], ['a server failed', 'a server or its daemon is not well'], ['os-stalled', 'the machine has stopped'], ['unreachable', 'unreachable'], ['left', 'left, or not seen from here']]
  return samples.map(([verdict, words]) => {
    const { tone, shape } = lookOf(verdict)
    return html('li', {}, svg('svg', { viewBox: '-10 -10 20 20', class: tone, 'aria-hidden': 'true' }, outline(shape, 0, 0, 7)), words)
  })
}
