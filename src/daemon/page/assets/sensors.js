/** Each peer's sensors, and their pulses. */
import { byId, count, duration, html, svg } from './dom.js'
import { beatsOf, pulseLength, sensorsOf } from './pulses.js'
import { badge, lookOf, wordOn } from './verdicts.js'

const width = 150
const height = 22

export function drawSensors({ peers }) {
  byId('no-peers').hidden = peers.length > 0
  byId('peers').replaceChildren(...peers.map(drawPeer))
}

function drawPeer(peer) {
  const word = wordOn(peer)
  const trips = peer.roundTripUs ? `p50 ${duration(peer.roundTripUs.p50 / 1000)}, p99 ${duration(peer.roundTripUs.p99 / 1000)}` : duration(peer.meanRoundTripUs / 1000)
  const trip = peer.meanRoundTripUs > 0 ? `${trips} · ${count(peer.rounds)} rounds${peer.failedRounds ? `, ${count(peer.failedRounds)} failed` : ''}` : ''
  return html('article', { class: 'peer', 'data-peer': peer.peer, 'data-verdict': word },
    html('h3', {}, peer.peer, badge(lookOf(word).tone, word), html('span', { class: 'trip', title: 'round trips of sampling it' }, trip)),
    html('p', {}, peer.seen),
    ...sensorsOf(peer).map(({ server, sensor }) => drawSensor(peer.peer, server, sensor)),
    ...(peer.gauges ?? []).map(drawGauge),
  )
}

/** A level or a pressure: its value beside its limit, which is the whole width. */
function drawGauge({ server, sensor, value, limit }) {
  const isPast = value > limit
  const label = html('span', { class: 'label' }, sensor, html('i', {}, ` · ${server ?? 'the machine'}`))
  label.title = label.textContent
  const share = limit > 0 ? Math.min(1, Math.max(0, value / limit)) : 0
  const bar = svg('svg', { class: 'bars', viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    svg('rect', { class: 'gauge-room', x: 0, y: height / 2 - 3, width, height: 6 }), svg('rect', { class: `gauge${isPast ? ' past' : ''}`, x: 0, y: height / 2 - 3, width: width * share, height: 6 }))
  return html('div', { class: 'sensor', 'data-gauge': sensor, 'data-server': server, 'data-state': isPast ? 'past' : 'within', title: `${value} of ${limit}` },
    label, bar, html('span', { class: 'says' }, `${isPast ? '! ' : ''}${amount(sensor, value)} of ${amount(sensor, limit)}`))
}

/** Three digits that count; of bytes, in the greatest unit that fits. A sensor's name ends in its unit. */
function amount(sensor, value) {
  const unit = sensor.endsWith('-bytes') && value > 0 ? Math.min(4, Math.floor(Math.log2(value) / 10)) : 0
  const shown = String(Number((value / 1024 ** unit).toPrecision(3)))
  return sensor.endsWith('-bytes') ? `${shown} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][unit]}` : sensor.endsWith('-pct') ? `${shown}%` : shown
}

function drawSensor(peer, server, sensor) {
  const beats = beatsOf(peer, server, sensor.name)
  const state = server?.exited ? 'gone' : sensor.stalled ? 'stalled' : sensor.pending === 0 ? 'idle' : 'moves'
  const label = server === undefined ? html('span', { class: 'label' }, sensor.name, html('i', {}, ' · the machine')) : html('span', { class: 'label' }, sensor.name, html('i', {}, ` · ${server.name}`))
  label.title = label.textContent
  return html('div', { class: `sensor ${state === 'gone' || state === 'stalled' ? 'bad' : ''}`, 'data-sensor': sensor.name, 'data-server': server?.name, 'data-state': state, title: `deadline ${duration(sensor.deadlineUs / 1000)}, last moved ${duration(sensor.ageUs / 1000)} ago` },
    label, drawBars(beats), html('span', { class: 'says' }, sayOf(state, sensor, beats)))
}

function sayOf(state, sensor, beats) {
  if (state === 'gone') return '✕ process gone'
  if (state === 'stalled') return `✕ still for ${duration(sensor.ageUs / 1000)}`
  const perS = beats.at(-1)?.perS
  if (state === 'idle') return 'nothing to do'
  return perS === undefined ? 'moves' : `${count(Math.round(perS))} /s`
}

/** Newest at the right. A sensor that stands still is a line of low red bars: also without colours it is flat. */
function drawBars(beats) {
  const most = Math.max(1, ...beats.map(({ perS }) => perS ?? 0))
  const step = width / pulseLength
  const bars = beats.map(({ perS, isStalled, isIdle }, i) => {
    const tall = perS ? Math.max(2, (perS / most) * (height - 3)) : 1.5
    const kind = isStalled ? ' stalled' : isIdle ? ' idle' : perS === undefined ? ' gap' : ''
    return svg('rect', { class: `bar${kind}`, x: (pulseLength - beats.length + i) * step, y: height - 1 - tall, width: step - 0.8, height: tall })
  })
  return svg('svg', { class: 'bars', viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' }, svg('line', { class: 'base', x1: 0, x2: width, y1: height - 0.5, y2: height - 0.5 }), ...bars)
}
