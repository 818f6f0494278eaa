/**
 * Three application nodes of the auction, one NIC machine that has the RAM of all of them, and users without any retry code. Two
 * nodes panic, one after the other: the second is the one that recovered the first. The database survives. Every user's story stays true.
 */
import type { Guest } from '../guest.js'
import type { GuestProcess } from '../guest-process.js'
import { guestProgram } from '../guest-programs.js'
import { panicKernel } from '../panic-kernel.js'
import type { Scenario, ScenarioContext, ScenarioResult } from '../scenario.js'
import { EventLog, regionOf, rigTimes, type RigEvent } from './cluster.js'
import { startHostFleet, type FleetHost } from './host-fleet.js'

const names = ['a', 'b', 'c'] as const
const applicationPort = 7500
const addressOf = (name: string): string => `10.99.0.${201 + names.indexOf(name as (typeof names)[number])}`
const [users, accounts, thinkMs] = [24, 24, 1500] as const
/** Users are at work for so long before each failure, and after the last, in milliseconds. */
const workMs = 8000

interface Application extends FleetHost {
  readonly log: EventLog
}

async function startDatabase(guest: Guest): Promise<{ url: string; process: GuestProcess }> {
  const process_ = await guest.spawn([...guestProgram('examples/auction/database/main'), JSON.stringify({ accounts, seed: 1, host: guest.ip })])
  const listening = await new EventLog(process_).until('database', ({ event }) => event === 'listening', 240_000)
  return { url: String(listening['url']), process: process_ }
}

async function startApplication(host: FleetHost, database: string): Promise<Application> {
  const args = { node: host.name, region: regionOf(host.name), host: '0.0.0.0', port: applicationPort, database, deadlineMs: rigTimes.serverDeadlineMs, abandonedAfterMs: 10_000, continues: true }
  const log = new EventLog(await host.guest.spawn([...guestProgram('examples/auction/application/main'), JSON.stringify(args)]))
  await log.until(`application of ${host.name}`, ({ event }) => event === 'serving', 240_000)
  return { ...host, log }
}

/** Panics a host. @returns what its recovery came to, once it is announced and its connections are decided on */
async function fail(context: ScenarioContext, victim: Application, others: readonly Application[]): Promise<{ by: Application; figures: Record<string, unknown> }> {
  const calledAtMs = performance.now()
  const { panickedMs } = await panicKernel(victim.guest, victim.ramPath)
  await victim.guest.yieldToOthers()
  const since = (matches: (event: RigEvent) => boolean) => (event: RigEvent): boolean => event.atMs > calledAtMs && event['peer'] === victim.name && matches(event)
  const [by, recovered] = await Promise.race(others.map(async (other) => [other, await other.daemonLog.until(`recovery of ${victim.name}`, since(({ event, outcome }) => event === 'recovered' && outcome === 'announced'))] as const))
  const connections = await by.daemonLog.until('connections', since(({ event }) => event === 'connections'))
  context.log(`${victim.name} panicked; ${by.name} recovered it, and goes on with ${String(connections['continued'])} of ${String(connections['found'])} connections`)
  return {
    by,
    figures: {
      failed: victim.name, by: by.name, sessions: recovered['adopted'], connections: connections['found'], continued: connections['continued'], reset: connections['reset'],
      recoverMs: Math.round(recovered.atMs - panickedMs), connectionsMs: Math.round(connections.atMs - panickedMs),
    },
  }
}

async function run(context: ScenarioContext): Promise<ScenarioResult> {
  const recovery = { addresses: names.map((node) => ({ node, address: `${addressOf(node)}/24`, interface: 'eth0' })) }
  const [fleet, [tiers]] = await Promise.all([startHostFleet(context, names, recovery), context.boot(['tiers'], { memoryMiB: 1024, cpus: 2 })])
  const database = await startDatabase(tiers)
  const applications = await Promise.all(fleet.hosts.map((host) => startApplication(host, database.url)))
  context.log('PostgreSQL and three application nodes serve')
  const args = { addresses: names.map((name) => ({ host: addressOf(name), port: applicationPort })), users, seed: Math.floor(Math.random() * 2 ** 31), thinkMs, database: database.url }
  const process_ = await tiers.spawn([...guestProgram('examples/auction/users/main'), JSON.stringify(args)])
  const log = new EventLog(process_)
  await log.until('users at work', ({ event }) => event === 'working')
  const work = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, workMs * (0.5 + Math.random())))
  const failures: Record<string, unknown>[] = []
  let [victim, others] = [applications[0] as Application, applications.slice(1)]
  for (let number = 0; number < 2; number++) {
    await work()
    const { by, figures } = await fail(context, victim, others)
    failures.push(figures)
    others = others.filter((other) => other !== by)
    victim = by
  }
  await work()
  process_.write('stop\n')
  const { event: _event, atMs: _atMs, ok: _ok, ...judged } = await log.until('judgement', ({ event }) => event === 'judged', 240_000)
  const findings = log.events.filter(({ event }) => event === 'finding').slice(0, 10)
  // A panic may catch a server between reading a client's bytes and committing them: that one connection is reset, and its user, who knows
  // no other way, is at its end. Nothing else may be wrong.
  const resets = failures.reduce((sum, { reset }) => sum + Object.values(reset as Record<string, number>).reduce((total, count) => total + count, 0), 0)
  const isTrue = ['lost', 'twice', 'invented'].every((violation) => judged[violation] === 0) && (judged['findings'] as string[]).length === judged['broken']
  return { ok: isTrue && resets <= failures.length && Number(judged['broken']) <= resets, seed: args.seed, users, failures, ...judged, told: findings }
}

export const auction: Scenario = {
  name: 'auction',
  summary: 'three application nodes and PostgreSQL; two nodes panic one after the other under users without retry code, whose stories stay true',
  run,
}
