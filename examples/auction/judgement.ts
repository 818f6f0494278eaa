/** The example's judgement: what the users and the database say, and whether the experiment was one. */
import type { Observations } from '../../src/cli/demo/observer.js'
import type { AuctionOptions } from './options.js'
import type { UsersJudgement } from './users/judgement.js'

/** One of the nodes that were made to fail. Times are CLOCK_MONOTONIC in milliseconds. */
export interface NodeFailure {
  readonly node: string
  readonly atMs: number
  /** The form that was between the database's commit and the session's; undefined where the node failed at a random instant. */
  readonly between?: { readonly key: string; readonly kind: string }
  readonly observations: Observations
}

/** An interrupted step that another node has finished. */
export interface FinishedStep {
  readonly node: string
  readonly key: string
  readonly kind: string
  /** The database had it already. */
  readonly wasDone: boolean
}

export interface Evidence {
  readonly options: AuctionOptions
  readonly failures: readonly NodeFailure[]
  readonly finished: readonly FinishedStep[]
  /** Requests that the front tier asked a second node. */
  readonly askedAgain: number
  readonly users: UsersJudgement
}

/** What `--json` prints. Times are milliseconds since the failure. */
export interface Judgement {
  readonly ok: boolean
  readonly faults: readonly string[]
  readonly seed: number
  readonly seconds: number
  readonly direct: boolean
  readonly canary: boolean
  readonly failure: AuctionOptions['failure']
  readonly failures: readonly { readonly node: string; readonly instant: 'random' | 'between-commits'; readonly detectMs: number | null; readonly recoverMs: number | null; readonly recoveredBy: string | null; readonly visits: number }[]
  /** Steps that a failure interrupted, of which the database had so many already. */
  readonly interrupted: { readonly finished: number; readonly wereInDatabase: number }
  readonly askedAgain: number
  readonly users: UsersJudgement
}

export function judge({ options, failures, finished, askedAgain, users }: Evidence): Judgement {
  const faults = [...(users.ok ? [] : [`${users.users - users.trueStories} of ${users.users} users' stories did not stay true`]), ...failures.flatMap((failure) => faultsOf(failure, finished)), ...faultsOfExperiment(failures), ...users.findings]
  return {
    ok: faults.length === 0 && users.ok,
    faults,
    seed: options.seed,
    seconds: options.seconds,
    direct: options.direct,
    canary: options.canary,
    failure: options.failure,
    failures: failures.map(({ node, atMs, between, observations: { detected, recovered } }) => ({
      node, instant: between ? 'between-commits' : 'random', detectMs: since(atMs, detected?.atMs), recoverMs: since(atMs, recovered?.atMs), recoveredBy: recovered?.by ?? null, visits: recovered?.sessions ?? 0,
    })),
    interrupted: { finished: finished.length, wereInDatabase: finished.filter(({ wasDone }) => wasDone).length },
    askedAgain,
    users,
  }
}

const since = (fromMs: number, atMs: number | undefined): number | null => (atMs === undefined ? null : Math.round((atMs - fromMs) * 10) / 10)

/** The example is to show an interrupted step, so there must have been one. */
function faultsOfExperiment(failures: readonly NodeFailure[]): string[] {
  return failures.some(({ between }) => between) ? [] : ['no node failed between the two commits of a step: none of its users began one in time; run it again']
}

function faultsOf({ node, between, observations }: NodeFailure, finished: readonly FinishedStep[]): string[] {
  const faults = observations.recovered ? [] : [`nobody recovered the visits of node ${node}`]
  if (between && !finished.some(({ key }) => key === between.key)) faults.push(`nobody finished the ${between.kind} that node ${node} had committed to the database alone`)
  return faults
}
