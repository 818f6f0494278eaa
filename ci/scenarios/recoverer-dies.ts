/**
 * A machine hangs under load, and the one that recovers it fails, too, at one of the six steps of the recovery. Either it hangs as well:
 * then a third one recovers both, and the two find themselves fenced when they are woken. Or its daemon is killed, and the queue pairs
 * with it: its server serves on, nobody fences it, and it comes back to what it lent.
 */
import { isBefore, recoverySteps, type RecoveryStep } from '../../src/region/control.js'
import type { Scenario, ScenarioContext, ScenarioResult } from '../scenario.js'
import { endNodes, hang, isUnharmed, judge, restartDaemon, startClients, startNodes, wakeFenced, type ClusterGuests, type ClusterNode, type EventLog, type LoadClients } from './cluster.js'
import { threeGuests, threeMachines, type ThreeNodes } from './three-nodes.js'

const sessions = 20
/** The node that is to recover second fences by a command first, which waits for this file: so the other one is first, however slow. */
const firstHasFailed = '/tmp/first-recoverer-has-failed'

type Failure = 'stopped' | 'killed'
type Three = readonly ['a', 'b', 'c']

/** What a trial has to do with: `a` hangs, `b` recovers it and fails, `c` is well. */
interface Trial {
  readonly context: ScenarioContext
  readonly cluster: ClusterGuests<Three>
  readonly step: RecoveryStep
  readonly nodes: ThreeNodes
  readonly clients: LoadClients
  readonly failedAtMs: number
}

/** What is particular to one way of failing. */
interface Course {
  /** How b fails, seen from what follows: all clients are to be served again. @returns b as it is now */
  fail(trial: Trial): Promise<ClusterNode>
  /** When all clients are served. @returns whether b is what it should be by now, and what is to be said of it */
  conclude(b: ClusterNode, trial: Trial): Promise<{ ok: boolean; figures: Record<string, unknown> }>
}

const announcedBy = (log: EventLog, peer: string): Promise<unknown> => log.until(`recovery of ${peer}`, ({ event, peer: of, outcome }) => event === 'recovered' && of === peer && outcome === 'announced')

const stopped: Course = {
  async fail({ nodes: [, b, c], clients }) {
    clients.process.write('fail b\n')
    // Its daemon stops itself; a second signal might come before that, and be the one that it is woken from.
    b.server.kill('SIGSTOP')
    await letSecondGoOn(c)
    await announcedBy(c.daemonLog, 'b')
    return b
  },
  async conclude(b) {
    const isFenced = await wakeFenced(b)
    return { ok: isFenced, figures: { recovererFenced: isFenced } }
  },
}

const killed: Course = {
  async fail({ context, cluster, step, nodes: [, b, c] }) {
    await b.daemon.exited
    await letSecondGoOn(c)
    // Nothing is b's before the claim says `adopted`: it is succeeded as it is. From then on only what it lends can tell.
    if (isBefore(step, 'adopted')) await announcedBy(c.daemonLog, 'a')
    const startedAtMs = performance.now()
    const again = { ...b, ...(await restartDaemon(context, cluster, b)) }
    await c.daemonLog.until('new link to b', ({ event, peer, atMs }) => event === 'watching' && peer === 'b' && atMs > startedAtMs)
    return again
  },
  conclude(again, { nodes: [, b] }) {
    const isFenced = [again.daemonLog, again.serverLog].some((log) => log.find(({ event }) => event === 'fenced') !== undefined)
    const [before, after] = [b, again].map(({ daemonLog }) => daemonLog.find(({ event }) => event === 'listening')?.['incarnation'])
    return Promise.resolve({ ok: !isFenced && before === after, figures: { recovererFenced: isFenced, sameIncarnation: before === after } })
  },
}

const courses: Readonly<Record<Failure, Course>> = { stopped, killed }

const letSecondGoOn = ({ guest }: ClusterNode): Promise<unknown> => guest.check(['touch', firstHasFailed])

async function trial(context: ScenarioContext, cluster: ClusterGuests<Three>, step: RecoveryStep, failure: Failure): Promise<ScenarioResult> {
  const { log } = context
  const course = courses[failure]
  await (cluster.guests[2] as ClusterNode['guest']).check(['rm', '-f', firstHasFailed])
  const nodes = await startNodes(context, cluster, {
    b: { signalAt: { peer: 'a', step, signal: failure === 'stopped' ? 'SIGSTOP' : 'SIGKILL' } },
    c: { recovery: { fence: { command: ['/bin/sh', '-c', `until test -e ${firstHasFailed}; do sleep 0.1; done`] } } },
  })
  const [a, b, c] = nodes
  const clients = await startClients(c, a, [b, c], sessions, { prefix: `${step}-${failure}-` })
  clients.process.write('fail a\n')
  hang(a)
  const failedAtMs = performance.now()
  await b.daemonLog.until(`${step} of a by b`, ({ event, peer, step: told }) => event === 'step' && peer === 'a' && told === step)
  log(`b was ${failure} at ${step}`)
  const about = { context, cluster, step, nodes, clients, failedAtMs }
  const bNow = await course.fail(about)
  const last = await clients.log.until('recovery of all sessions', ({ event }) => event === 'all-recovered', 90_000)
  log(`all ${sessions} sessions are served`)
  const isFenced = await wakeFenced(a)
  const { ok: isAsItShould, figures } = await course.conclude(bNow, about)
  const judgement = await judge(clients)
  const recoveredBy = [...new Set([bNow, c].filter(({ daemonLog }) => daemonLog.find(({ event, peer, outcome }) => event === 'recovered' && peer === 'a' && outcome === 'announced')).map(({ name }) => name))]
  await endNodes([a, bNow, c])
  return { ok: isUnharmed(judgement) && judgement.recovered === sessions && isFenced && isAsItShould, step, failure, ...judgement, fenced: isFenced, ...figures, recoveredBy, lastClientMs: Math.round(last.atMs - failedAtMs) }
}

/** In one run each step once, by turns in either way; in two, each step in both. */
const failureAt = (index: number, run: number): Failure => ((index + run) % 2 === 0 ? 'stopped' : 'killed')

export const recovererDies: Scenario = {
  name: 'recoverer-dies',
  machines: threeMachines,
  defaultTrials: 2,
  summary: 'the recoverer of a hung machine hangs, or its daemon is killed, at each of the six steps (--trials 2: both at each): nothing is lost or served twice',
  async run(context) {
    const cluster = await threeGuests(context)
    const results: ScenarioResult[] = []
    for (let run = 0; run < context.trials; run++) {
      for (const [index, step] of recoverySteps.entries()) {
        const result = await trial(context, cluster, step, failureAt(index, run))
        context.log(JSON.stringify(result))
        results.push(result)
      }
    }
    const sum = (field: string): number => results.reduce((total, result) => total + Number(result[field]), 0)
    const all = (field: string): unknown[] => results.map((result) => result[field])
    return {
      ok: results.every(({ ok }) => ok), steps: all('step'), failures: all('failure'), sessions: sum('sessions'), recovered: sum('recovered'), lost: sum('lost'), servedTwice: sum('servedTwice'),
      invented: sum('invented'), acknowledged: sum('acknowledged'), findings: results.flatMap(({ findings }) => findings as string[]).slice(0, 20),
      fenced: all('fenced'), recovererFenced: all('recovererFenced'), recoveredBy: all('recoveredBy'), lastClientMs: all('lastClientMs'),
    }
  },
}
