/** What is to happen in one simulation, as data: drawn from a seed, made smaller by shrinking, and printed with a failure. */
import { Random } from '../fabric/mock/random.js'
import { recoverySteps, type RecoveryStep } from '../region/control.js'
import type { Canary } from '../safeguards.js'
import { fencingRange, type FencingPlan } from './fencing.js'
import { ms, timing } from './timing.js'

/** What befalls machines, processes, links and memory, while the members are the same. */
export const steadyKinds = [
  'kill-server', 'hang-server', 'stall-daemon', 'kill-daemon', 'die-adopting', 'stop-machine', 'kill-machine', 'wake',
  'cut-link', 'slow-link', 'lossy-link', 'rot',
] as const
/** What becomes of the membership: most of it is no fault, but it may come at the worst of times. */
export const memberKinds = ['join', 'leave', 'forget-member'] as const
export const faultKinds = [...steadyKinds, ...memberKinds] as const
export type FaultKind = (typeof faultKinds)[number]

/** At a time, or when somebody in the cluster comes to a step of a recovery for the `nth` time. Microseconds. */
export type Trigger = { readonly atUs: number } | { readonly step: RecoveryStep; readonly nth: number; readonly afterUs: number }

export interface Fault {
  readonly kind: FaultKind
  readonly when: Trigger
  /** A machine by its number among those of the beginning, by its part in the recovery that triggers this, or the one that joined last. */
  readonly who: number | 'recoverer' | 'suspect' | 'joined'
  /** The other end of a link, which of the machine's servers, or who is forgotten. */
  readonly other: number
  /** In microseconds; null: for good. A server is started again in any case. */
  readonly lastsUs: number | null
  /** Strikes in the middle of the next commit of a server, when this share of it is written, from 0 to 1. */
  readonly midCommit: number | null
  /** A change of the members reaches each machine's file within so long, in microseconds. */
  readonly withinUs?: number
}

export interface Scenario {
  readonly seed: number
  readonly nodes: number
  /** How many peers each node watches. */
  readonly watched: number
  readonly sessions: number
  readonly faults: readonly Fault[]
  /** Null where nobody is fenced from outside. */
  readonly fencing: FencingPlan | null
  readonly canary?: Canary
}

export interface ScenarioOptions {
  readonly nodes?: number
  readonly sessions?: number
  readonly kinds?: readonly FaultKind[]
  readonly canary?: Canary
}

export const serversPerNode = 2

/** What can befall whoever has a part in a recovery. */
const ofRecoverers: readonly FaultKind[] = ['kill-machine', 'stop-machine', 'stall-daemon', 'kill-daemon', 'die-adopting', 'cut-link', 'lossy-link']
const ofSuspects: readonly FaultKind[] = ['wake', 'wake', 'kill-machine', 'cut-link', 'slow-link', 'rot']
/** Those that lead to recoveries come more often; what takes memory away leaves less to check. */
const ofAnybody: readonly FaultKind[] = [
  ...steadyKinds.filter((kind) => kind !== 'wake' && kind !== 'die-adopting'),
  'kill-server', 'hang-server', 'stop-machine', 'stop-machine',
]
/** What befalls a machine that has joined. */
const ofJoined: readonly FaultKind[] = ['stop-machine', 'stop-machine', 'kill-server', 'hang-server', 'kill-machine', 'kill-daemon', 'stall-daemon', 'cut-link']
/** The first fault is one that a recovery follows. */
const first: readonly FaultKind[] = ['kill-server', 'hang-server', 'stop-machine', 'stop-machine']

export function drawScenario(seed: number, { nodes, sessions = 12, kinds = faultKinds, canary }: ScenarioOptions = {}): Scenario {
  const random = new Random(seed).fork('scenario')
  const count = nodes ?? random.integer(3, 5)
  const faults: Fault[] = []
  for (let left = random.integer(1, 8); left > 0; left--) {
    const fault = drawFault(random, count, kinds, faults.length === 0)
    if (fault) faults.push(fault)
  }
  faults.push(...drawMemberFaults(seed, count, kinds))
  return { seed, nodes: count, watched: Math.min(2, count - 1), sessions, faults, fencing: drawFencing(seed), ...(canary ? { canary } : {}) }
}

/** From numbers of its own, so that a seed's faults are the same with it as without. */
function drawFencing(seed: number): FencingPlan | null {
  const random = new Random(seed).fork('fencing')
  if (random.chance(0.5)) return null
  return { required: random.chance(0.5), takesUs: random.integer(...fencingRange.takesUs), failures: random.chance(0.7) ? 0 : random.integer(1, fencingRange.failures) }
}

/** From numbers of their own as well: where none is drawn, or none asked for, a seed is what it is without them. */
function drawMemberFaults(seed: number, nodes: number, kinds: readonly FaultKind[]): Fault[] {
  const random = new Random(seed).fork('members')
  const allowed = memberKinds.filter((kind) => kinds.includes(kind))
  const isAlone = allowed.length === kinds.length
  if (allowed.length === 0 || (!isAlone && random.chance(0.5))) return []
  const faults: Fault[] = []
  for (let left = random.integer(1, 3); left > 0; left--) faults.push(drawMemberFault(random, nodes, random.pick(allowed), isAlone))
  const fitting = ofJoined.filter((kind) => kinds.includes(kind))
  const joins = faults.some(({ kind }) => kind === 'join')
  if (joins && fitting.length > 0 && random.chance(0.7)) faults.push(drawFaultOfJoined(random, nodes, random.pick(fitting)))
  return faults
}

function drawMemberFault(random: Random, nodes: number, kind: (typeof memberKinds)[number], isAlone: boolean): Fault {
  // Without anything else nobody is recovered.
  const atStep = !isAlone && random.chance(0.5)
  const anybody = random.chance(0.2) ? 'joined' as const : random.integer(0, nodes - 1)
  const forGood = kind === 'leave' && random.chance(0.6)
  return {
    kind,
    when: atStep ? drawStep(random) : { atUs: random.integer(timing.firstFaultUs, timing.lastFaultUs) },
    who: atStep ? random.pick(['recoverer', 'suspect', anybody] as const) : anybody,
    // Who has joined may be the one that is forgotten.
    other: random.integer(0, nodes),
    lastsUs: forGood ? null : ms * random.integer(20, 1500),
    midCommit: null,
    withinUs: random.pick([0, random.integer(1, 50 * ms), random.integer(50 * ms, 400 * ms)]),
  }
}

/** At a time, as it may have a part in no recovery. */
function drawFaultOfJoined(random: Random, nodes: number, kind: FaultKind): Fault {
  return {
    kind,
    when: { atUs: random.integer(timing.firstFaultUs + 200 * ms, timing.healedUs - 50 * ms) },
    who: 'joined',
    other: random.integer(0, nodes - 1),
    lastsUs: drawDuration(random, kind),
    midCommit: null,
  }
}

function drawFault(random: Random, nodes: number, allowed: readonly FaultKind[], isFirst: boolean): Fault | undefined {
  const atStep = !isFirst && random.chance(0.55)
  const part = atStep ? random.pick(['recoverer', 'recoverer', 'suspect', 'anybody'] as const) : 'anybody'
  const fitting = { recoverer: ofRecoverers, suspect: ofSuspects, anybody: ofAnybody }[part].filter((kind) => allowed.includes(kind))
  const leading = isFirst ? first.filter((kind) => allowed.includes(kind)) : []
  if (fitting.length === 0) return undefined
  const kind = random.pick(leading.length > 0 ? leading : fitting)
  const strikesServers = kind === 'kill-server' || kind === 'hang-server' || kind === 'stop-machine' || kind === 'kill-machine'
  return {
    kind,
    when: atStep ? drawStep(random) : { atUs: random.integer(timing.firstFaultUs, timing.lastFaultUs) },
    who: part === 'anybody' ? random.integer(0, nodes - 1) : part,
    other: random.integer(0, nodes - 1),
    lastsUs: drawDuration(random, kind),
    midCommit: strikesServers && part === 'anybody' && random.chance(0.4) ? random.float() : null,
  }
}

const drawStep = (random: Random): Trigger => ({
  step: random.pick(recoverySteps),
  nth: random.chance(0.7) ? 1 : random.integer(2, 4),
  afterUs: random.pick([0, random.integer(1, 30), random.integer(30, 300), random.integer(300, 20_000)]),
})

/** Shorter than a deadline, about as long as a recovery, long, or for good. */
function drawDuration(random: Random, kind: FaultKind): number | null {
  const forGood = kind === 'stop-machine' || kind === 'kill-machine' || kind === 'hang-server'
  if (forGood && random.chance(0.4)) return null
  return ms * random.pick([random.integer(20, 60), random.integer(60, 150), random.integer(150, 500), random.integer(500, 1500)])
}

const nodeNames = 'abcdefghijklmnopqrstuvwxyz'

/** The name of a machine by its number: a to z, then a1, b1, … */
export const nodeName = (index: number): string => `${nodeNames[index % 26] as string}${index < 26 ? '' : Math.floor(index / 26)}`

/** In words, for the story. */
export function describeFault({ kind, when, who, other, lastsUs, midCommit, withinUs }: Fault, nodes: number): string {
  const subject = kind === 'join' ? 'a new machine' : typeof who === 'number' ? nodeName(who % nodes) : who === 'joined' ? 'the last that joined' : `the ${who}`
  const object = kind.endsWith('-link') ? ` and ${nodeName(other % nodes)}` : kind.endsWith('-server') ? `, web-${other % serversPerNode}` : ''
  if (kind === 'forget-member') return `${subject} lacks member ${other} in its file ${timeOf(when)}, for ${lastsUs ?? 0} µs`
  const members = withinUs === undefined ? '' : `, in all files within ${withinUs} µs`
  const middle = midCommit === null ? '' : `, in the middle of a commit (${Math.round(100 * midCommit)}%)`
  const lasting = kind === 'join' ? '' : lastsUs === null ? ', for good' : `, for ${lastsUs} µs`
  return `${kind} of ${subject}${object} ${timeOf(when)}${lasting}${middle}${members}`
}

const timeOf = (when: Trigger): string => ('atUs' in when ? `at ${when.atUs} µs` : `${when.afterUs} µs after ${when.step} (${when.nth}.)`)
