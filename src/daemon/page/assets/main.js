/** Follows the daemon's events, and draws each frame. */
import { byId, count, html, setText } from './dom.js'
import { drawHistory, drawIncidents } from './incidents.js'
import { follow } from './pulses.js'
import { drawRing } from './ring.js'
import { drawSensors } from './sensors.js'
import { legend, wordOn } from './verdicts.js'

byId('legend').replaceChildren(...legend())

/** Longer than some frames take to come; after that, what is shown is old. In milliseconds. */
const patienceMs = 3000
let nowMs = 0
let overdue

function setLink(state, words) {
  byId('link').dataset.state = state
  setText('link', words)
}

function drawHeader({ node, cluster, incarnation, region, fabric, fenced, servers, waitingSessions, peers }) {
  document.title = `${node} · Backdoors`
  setText('node', node)
  setText('cluster', `in ${cluster}`)
  setText('about', `lends ${region} over ${fabric}, incarnation ${incarnation}`)
  byId('fenced').hidden = !fenced
  const alive = peers.filter((peer) => wordOn(peer) === 'alive').length
  const figures = [['peers alive', `${alive} / ${peers.length}`], ['local servers', servers.length], ['waiting sessions', count(waitingSessions)]]
  byId('figures').replaceChildren(...figures.map(([name, value]) => html('div', {}, html('dt', {}, name), html('dd', {}, value))))
}

const events = new EventSource('/events')
events.addEventListener('status', ({ data }) => {
  const status = JSON.parse(data)
  nowMs = status.nowMs
  setLink('live', 'live')
  clearTimeout(overdue)
  overdue = setTimeout(() => setLink('lost', 'nothing comes from the daemon'), patienceMs)
  follow(status)
  drawHeader(status)
  drawRing(status)
  drawSensors(status)
})
events.addEventListener('past', ({ data }) => {
  const past = JSON.parse(data)
  drawIncidents(past)
  drawHistory(past, nowMs)
})
events.addEventListener('error', () => {
  clearTimeout(overdue)
  setLink('lost', events.readyState === EventSource.CLOSED ? 'refused: too many look at this page' : 'the daemon does not answer')
})
