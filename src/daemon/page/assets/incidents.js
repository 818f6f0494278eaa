/** Incidents from suspicion to announcement, the newest first, and the verdicts of the past. */
import { byId, duration, html, svg } from './dom.js'
import { badge, lookOf } from './verdicts.js'

const steps = ['suspected', 'fenced', 'claimed', 'extracted', 'adopted', 'announced']
const shownVerdicts = 50
const outcomes = {
  standing: ['warn', 'stands'], passed: ['good', 'passed by itself'], recovering: ['warn', 'is being recovered'], failed: ['bad', 'recovery failed'],
  announced: ['good', 'recovered'], 'claimed-by-other': ['good', 'recovered by another node'], superseded: ['good', 'restarted before the fence'], closed: ['good', 'had closed in order'],
}

export function drawIncidents({ incidents }) {
  byId('no-incidents').hidden = incidents.length > 0
  byId('incidents').replaceChildren(...incidents.toReversed().map(drawIncident))
}

function drawIncident(incident) {
  const { id, peer, server, startedAt, verdicts, outcome, attempts } = incident
  const last = verdicts.at(-1)
  const [tone, words] = outcomes[outcome] ?? ['warn', outcome]
  const began = new Date(startedAt)
  return html('li', { class: 'incident', 'data-incident': id, 'data-peer': peer, 'data-outcome': outcome },
    html('h3', {}, server === undefined ? peer : `${server} on ${peer}`, badge(lookOf(last.verdict).tone, last.verdict), badge(tone, words), html('time', { datetime: startedAt }, began.toLocaleString())),
    html('p', {}, `${verdicts[0].evidence.seen} — seen by ${verdicts[0].evidence.by}${attempts > 1 ? `; attempt ${attempts}` : ''}`),
    ...drawSteps(incident),
    ...resultOf(incident),
  )
}

/** The moments of an incident that are known, in their order: last sign of life, suspicion, then the recovery's steps. */
function momentsOf({ lastMovedAtMs, suspectedAtMs, steps: taken }) {
  const moments = lastMovedAtMs === undefined ? [] : [{ name: 'moved', label: 'last moved', atMs: lastMovedAtMs }]
  moments.push({ name: 'suspected', label: 'suspected', atMs: suspectedAtMs })
  for (const { step, atMs } of taken) if (step !== 'suspected') moments.push({ name: step, label: step, atMs })
  return moments
}

function drawSteps(incident) {
  const moments = momentsOf(incident)
  const isRecovery = incident.steps.length > 0
  const missing = isRecovery ? steps.slice(1).filter((step) => !moments.some(({ name }) => name === step)) : []
  const scale = moments.length < 2 ? undefined : drawScale(moments)
  const list = html('ol', { class: 'steps' },
    ...moments.map(({ name, label, atMs }, i) => html('li', { class: name, 'data-step': name }, label, html('b', {}, i === 0 ? '0' : `+${duration(atMs - moments[i - 1].atMs)}`))),
    ...(incident.outcome === 'recovering' || incident.outcome === 'failed' ? missing : []).map((step) => html('li', { class: 'missing' }, step)))
  return scale === undefined ? [list] : [scale, list]
}

/** Where the time went, to scale. */
function drawScale(moments) {
  const [first, last] = [moments[0].atMs, moments.at(-1).atMs]
  const span = Math.max(last - first, 0.001)
  const segments = moments.slice(0, -1).map(({ name, label, atMs }, i) => {
    const [from, to] = [atMs, moments[i + 1].atMs].map((ms) => ((ms - first) / span) * 1000)
    return svg('rect', { class: `segment ${name}`, x: from, y: 0, width: Math.max(to - from - 1, 1.5), height: 8 }, svg('title', {}, `${label} → ${moments[i + 1].label}: ${duration(moments[i + 1].atMs - atMs)}`))
  })
  return svg('svg', { class: 'scale', viewBox: '0 0 1000 8', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, ...segments)
}

function resultOf({ outcome, sessions, lost, error, suspectedAtMs, lastMovedAtMs, aliveAgainAtMs, steps: taken }) {
  const said = []
  const announced = taken.find(({ step }) => step === 'announced')
  if (outcome === 'announced' && sessions && announced) {
    const since = lastMovedAtMs === undefined ? `${duration(announced.atMs - suspectedAtMs)} after suspicion` : `${duration(announced.atMs - lastMovedAtMs)} after the last sign of life`
    const known = sessions.known > 0 ? `, ${sessions.known} were here already` : ''
    said.push(html('p', { class: 'result' }, `${sessions.adopted} of ${sessions.found} sessions adopted${known}, ${lost} lost; announced ${since}`))
  }
  if (error) said.push(html('p', { class: 'error' }, `${error.code}: ${error.message}`))
  if (aliveAgainAtMs !== undefined) said.push(html('p', {}, `alive again ${duration(aliveAgainAtMs - suspectedAtMs)} after the suspicion`))
  return said
}

/** @param nowMs the daemon's monotonic clock just now */
export function drawHistory({ history }, nowMs) {
  byId('no-history').hidden = history.length > 0
  byId('history').replaceChildren(...history.slice(-shownVerdicts).reverse().map(({ peer, server, verdict, atMs, evidence }) =>
    html('tr', { 'data-verdict': verdict },
      html('td', {}, new Date(Date.now() - (nowMs - atMs)).toLocaleTimeString()),
      html('td', {}, server === undefined ? peer : `${server} on ${peer}`),
      html('td', {}, badge(lookOf(verdict).tone, verdict)),
      html('td', {}, evidence.seen))))
}
