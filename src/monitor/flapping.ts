/**
 * A subject whose verdict flips between alive and not more often than is of use to anybody: telling it is held down, for longer
 * each time. What leads to a recovery is never held, and nothing here decides what is done, only what is told.
 */
import type { BoxVerdictKind, NodeVerdictKind } from './verdict.js'

export type VerdictKind = NodeVerdictKind | BoxVerdictKind

export interface FlappingRule {
  /** More flips than this within the window are flapping. */
  readonly flips: number
  readonly windowUs: number
  /** After something was told of what flaps, nothing is for so long; twice as long the next time, up to the longest. */
  readonly holdUs: number
  readonly longestHoldUs: number
}

/** What is known of one subject. Everybody begins alive. */
export interface Telling {
  readonly current: VerdictKind
  readonly told: VerdictKind
  /** When it flipped, the latest last: as many as are needed to tell. */
  readonly flipsUs: readonly number[]
  readonly heldUntilUs: number | undefined
  /** Holds since it began to flap. */
  readonly holds: number
  /** Verdicts that were not told since the last that was. */
  readonly held: number
}

export interface Told {
  readonly state: Telling
  /** Is the current verdict to be told now? */
  readonly tell: boolean
}

export const untold: Telling = { current: 'alive', told: 'alive', flipsUs: [], heldUntilUs: undefined, holds: 0, held: 0 }

/** A recovery hangs on them, so everybody hears of them at once and every time. */
export const urgentVerdicts: ReadonlySet<VerdictKind> = new Set<VerdictKind>(['os-panicked', 'os-stalled', 'app-stalled', 'app-exited'])

export function isFlapping({ flipsUs }: Telling, nowUs: number, { flips, windowUs }: FlappingRule): boolean {
  return flipsUs.filter((atUs) => nowUs - atUs < windowUs).length > flips
}

/** A verdict was reached; the same once more where it was judged anew. */
export function onVerdict(before: Telling, kind: VerdictKind, nowUs: number, rule: FlappingRule): Told {
  const state = { ...flip(before, kind, nowUs, rule), current: kind }
  if (urgentVerdicts.has(kind)) return { state: { ...state, told: kind, held: 0 }, tell: true }
  if (kind === before.current) return { state: before, tell: false }
  if (!isFlapping(state, nowUs, rule)) return tellNow({ ...state, heldUntilUs: undefined, holds: 0 })
  if (state.heldUntilUs !== undefined && nowUs < state.heldUntilUs) return { state: { ...state, held: state.held + 1 }, tell: false }
  if (state.current === state.told) return { state, tell: false }
  return tellNow(hold(state, nowUs, rule))
}

/** Time has passed: what was held is due, if it still differs from what was told. */
export function onTime(state: Telling, nowUs: number, rule: FlappingRule): Told {
  if (state.heldUntilUs === undefined || nowUs < state.heldUntilUs) return { state, tell: false }
  if (!isFlapping(state, nowUs, rule)) return tellNow({ ...state, heldUntilUs: undefined, holds: 0 })
  if (state.current === state.told) return { state: { ...state, heldUntilUs: undefined }, tell: false }
  return tellNow(hold(state, nowUs, rule))
}

/** A new owner by the same name is alive until judged, which nobody needs to be told: a server that crashes over and over flaps. */
export function startOver(before: Telling, nowUs: number, rule: FlappingRule): Telling {
  if (before.current === 'alive') return before
  return { ...flip(before, 'alive', nowUs, rule), current: 'alive', told: 'alive' }
}

/** When `onTime` is to be asked; undefined where nothing is held. */
export const dueUs = ({ current, told, heldUntilUs }: Telling): number | undefined => (current === told ? undefined : heldUntilUs)

function flip(state: Telling, kind: VerdictKind, nowUs: number, rule: FlappingRule): Telling {
  if ((state.current === 'alive') === (kind === 'alive')) return state
  return { ...state, flipsUs: [...state.flipsUs, nowUs].slice(-(rule.flips + 1)) }
}

function hold(state: Telling, nowUs: number, { holdUs, longestHoldUs }: FlappingRule): Telling {
  return { ...state, heldUntilUs: nowUs + Math.min(longestHoldUs, holdUs * 2 ** Math.min(state.holds, 30)), holds: state.holds + 1 }
}

function tellNow(state: Telling): Told {
  return { state: { ...state, told: state.current, held: 0 }, tell: state.current !== state.told }
}
