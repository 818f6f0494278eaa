/** The cluster as a picture: nodes on a ring, arrows from who watches to who is watched. */
import { byId, duration, svg } from './dom.js'
import { lookOf, outline, wordOn } from './verdicts.js'

const width = 720
const height = 560
const middleY = height / 2
let drawn = ''

export function drawRing(status) {
  const picture = pictureOf(status)
  // What has not changed is left alone, so that a tooltip stays where it is.
  const key = JSON.stringify(picture)
  if (key === drawn) return
  drawn = key
  const ring = byId('ring')
  ring.setAttribute('viewBox', `0 0 ${width} ${height}`)
  const places = placesOf(picture.nodes)
  ring.replaceChildren(...picture.edges.flatMap((edge) => drawEdge(edge, places, picture)), ...picture.nodes.map((node) => drawNode(node, places)))
}

function pictureOf({ node, plan, peers }) {
  const known = new Map(peers.map((peer) => [peer.peer, peer]))
  const nodes = plan.map(({ node: name, through }) => {
    const peer = known.get(name)
    return { name, through, isSelf: name === node, word: name === node ? 'this node' : wordOn(peer), seen: name === node ? 'the daemon that serves this page' : (peer?.seen ?? 'this daemon does not watch it') }
  })
  const names = new Set(nodes.map(({ name }) => name))
  const edges = plan.flatMap(({ node: from, watches }) => watches.filter((to) => names.has(to)).map((to) => {
    const isOwn = from === node
    const peer = known.get(to)
    const state = !isOwn ? '' : isReadable(wordOn(peer)) ? ' own' : lookOf(wordOn(peer)).tone === 'none' ? ' own waiting' : ' own broken'
    return { from, to, isOwn, state, trip: state === ' own' && peer?.meanRoundTripUs > 0 ? duration(Number((peer.meanRoundTripUs / 1000).toPrecision(2))) : undefined }
  }))
  // Own arrows lie above the others'.
  edges.sort((one, other) => Number(one.isOwn) - Number(other.isOwn))
  return { nodes, edges }
}

const isReadable = (word) => ['alive', 'a server failed', 'daemon-stalled'].includes(word)

function placesOf(nodes) {
  const size = Math.max(7, Math.min(34, 330 / Math.max(nodes.length, 1)))
  const radius = { x: nodes.length === 1 ? 0 : 270, y: nodes.length === 1 ? 0 : 196 }
  // The daemon's own node stands at the top, and the others follow in the ring's order.
  const first = Math.max(0, nodes.findIndex(({ isSelf }) => isSelf))
  const places = new Map()
  for (let i = 0; i < nodes.length; i++) {
    const angle = (2 * Math.PI * i) / nodes.length - Math.PI / 2
    const node = nodes[(first + i) % nodes.length]
    places.set(node.name, { x: width / 2 + radius.x * Math.cos(angle), y: middleY + radius.y * Math.sin(angle), size })
  }
  return places
}

function drawEdge({ from, to, isOwn, state, trip }, places, { nodes }) {
  const [start, end] = [places.get(from), places.get(to)]
  const [dx, dy] = [end.x - start.x, end.y - start.y]
  const length = Math.hypot(dx, dy) || 1
  const [ux, uy] = [dx / length, dy / length]
  // Bent to one side, so that two who watch each other have two arrows.
  const bend = Math.min(34, length * 0.1)
  const middle = { x: (start.x + end.x) / 2 + uy * bend, y: (start.y + end.y) / 2 - ux * bend }
  const away = (place, towards) => {
    const distance = Math.hypot(towards.x - place.x, towards.y - place.y) || 1
    const gap = place.size * 1.25 + 4
    return { x: place.x + ((towards.x - place.x) / distance) * gap, y: place.y + ((towards.y - place.y) / distance) * gap }
  }
  const [a, b] = [away(start, middle), away(end, middle)]
  const says = `${from} watches ${to}${trip ? `, mean round trip ${trip}` : ''}${isOwn ? '' : ' (by the common rule)'}`
  const path = svg('path', { class: `edge${state}`, d: `M${a.x},${a.y} Q${middle.x},${middle.y} ${b.x},${b.y}`, 'data-from': from, 'data-to': to }, svg('title', {}, says))
  const parts = [path, arrowTip(b, middle, `tip${state}`, isOwn ? 11 : 8)]
  // At three fifths of the way, as arrows cross in the middle.
  const at = (t) => ({ x: (1 - t) ** 2 * a.x + 2 * t * (1 - t) * middle.x + t * t * b.x, y: (1 - t) ** 2 * a.y + 2 * t * (1 - t) * middle.y + t * t * b.y })
  if (trip && nodes.length <= 16) parts.push(svg('text', { class: 'trip', x: at(0.6).x, y: at(0.6).y + 4, 'font-size': 13 }, trip))
  return parts
}

function arrowTip(at, from, kind, size) {
  const angle = Math.atan2(at.y - from.y, at.x - from.x)
  const corner = (turn, reach) => `${at.x - reach * Math.cos(angle + turn)},${at.y - reach * Math.sin(angle + turn)}`
  return svg('polygon', { class: kind, points: `${at.x + 2 * Math.cos(angle)},${at.y + 2 * Math.sin(angle)} ${corner(0.42, size)} ${corner(-0.42, size)}` })
}

function drawNode({ name, word, seen, isSelf, through }, places) {
  const { x, y, size } = places.get(name)
  const { tone, shape, mark } = lookOf(word)
  const textSize = Math.max(9, Math.min(17, size * 0.55))
  const hasWord = size >= 12
  // On the ring's outer side, away from the arrows.
  const isAbove = y < middleY - 20
  const nameY = isAbove ? y - size * 1.3 - (hasWord ? textSize * 1.35 : textSize * 0.3) : y + size * 1.25 + textSize
  return svg('g', { class: `node ${tone}`, 'data-node': name, 'data-verdict': word },
    svg('title', {}, `${name}: ${word}. ${seen}${through ? `, through ${through}` : ''}`),
    isSelf ? svg('circle', { class: 'halo', cx: x, cy: y, r: size + 5 }) : undefined,
    outline(shape, x, y, size),
    svg('text', { class: 'mark', x, y: y + (shape === 'triangle' ? size * 0.14 : 0), 'font-size': size * 0.8 }, mark),
    svg('text', { class: 'name', x, y: nameY, 'font-size': textSize }, name),
    hasWord ? svg('text', { class: 'word', x, y: nameY + textSize * 1.1, 'font-size': textSize * 0.82 }, word) : undefined,
  )
}
