/**
 * A host with a random kernel address panics; everything that can be read of it is read over RDMA from another machine, and
 * held against what the host itself reported just before.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { RecoveryReport } from '../../src/recovery/recover.js'
import type { Guest } from '../guest.js'
import { guestProgram } from '../guest-programs.js'
import { requireTools, runOnHost } from '../host-tools.js'
import { readConnectionsNatively } from '../native-reading.js'
import { panicKernel } from '../panic-kernel.js'
import type { BusyHostArguments } from '../programs/busy-host.js'
import type { Scenario, ScenarioContext } from '../scenario.js'
import { EventLog, regionOf, rigTimes, type ClusterNode } from './cluster.js'
import { startHostCluster } from './hosts.js'
import { backtraceDiffers, cpusDiffer, logDiffers, mapsDiffer, memoryDiffers, panicDiffers, socketsDiffer, tasksDiffer, type HostReport, type Json } from './inspect-checks.js'
import { measureVmcore } from './vmcore-rate.js'

const sessions = 1000
const sessionBytes = 4096
/** 1,000 sockets: both ends are the host's. */
const connections = 500
const heapBytes = 24 << 20
const commandTimeoutMs = 300_000
const sourceOf = (program: string): string => fileURLToPath(new URL(`../../../ci/programs/${program}.c`, import.meta.url))

interface Cost extends Json {
  readonly reads: number
  readonly bytes: number
  readonly ms: number
  /** All that a user waits for, from starting the program to its end. */
  readonly waitedMs: number
}

async function startBusyHost(guest: Guest): Promise<Pick<ClusterNode, 'server' | 'serverLog'>> {
  const args: BusyHostArguments = { region: regionOf('a'), sessions, sessionBytes, connections, deadlineMs: 60_000 }
  const server = await guest.spawn([...guestProgram('ci/programs/busy-host'), JSON.stringify(args)])
  const serverLog = new EventLog(server)
  await serverLog.until('sessions and connections', ({ event }) => event === 'ready')
  return { server, serverLog }
}

/** Compiles a program of which something is known. @returns its path, and its process in the guest, which waits by now */
async function startKnown(context: ScenarioContext, guest: Guest, program: 'known-stack' | 'known-sockets'): Promise<{ path: string; pid: number }> {
  const folder = join(context.runPath, 'programs')
  mkdirSync(folder, { recursive: true })
  const path = join(folder, program)
  const { gcc } = await requireTools(['gcc'])
  await runOnHost(gcc, ['-g', '-O1', '-fno-omit-frame-pointer', '-pthread', '-o', path, sourceOf(program)])
  const child = await guest.spawn([path])
  await child.waitForLine(/waiting/)
  return { path, pid: Number(await guest.check(`pidof ${program}`)) }
}

async function reportOf(guest: Guest, pid: number): Promise<Omit<HostReport, 'console'>> {
  const [dmesg, maps, ss, ps, meminfo, uptime, stat] = [
    await guest.check('dmesg'), await guest.check(`cat /proc/${pid}/maps`), await guest.check('ss -tuanH'), await guest.check('ps -eo pid,ppid,comm'),
    await guest.check('cat /proc/meminfo'), await guest.check('cat /proc/uptime'), await guest.check('cat /proc/stat'),
  ]
  return { ps, ss, maps, meminfo, stat, uptime, dmesg }
}

/** The command line on the healthy node. */
class Inspector {
  readonly #guest: Guest
  readonly costs: Record<string, Cost> = {}
  learning: Json | undefined

  constructor(guest: Guest) {
    this.#guest = guest
  }

  command(...args: readonly string[]): string[] {
    return [...guestProgram('src/cli/main'), ...args, '--region', regionOf('b')]
  }

  async run(...args: readonly string[]): Promise<string> {
    return await this.#guest.check(this.command(...args), { timeoutMs: commandTimeoutMs })
  }

  async json(name: string, ...args: readonly string[]): Promise<Json> {
    const startedMs = performance.now()
    const answer = JSON.parse(await this.run(...args, '--json')) as Json
    const waitedMs = Math.round(performance.now() - startedMs)
    const { learning, ...cost } = answer['cost'] as Cost & { learning: Json }
    this.costs[name] = { ...cost, waitedMs }
    this.learning ??= learning
    return answer
  }
}

/** The times between a recovery's steps, in milliseconds. */
function stepsOf({ steps }: RecoveryReport): Record<string, number> {
  return Object.fromEntries(steps.flatMap(({ step, atMs }, i) => (i === 0 ? [] : [[step, Math.round(atMs - (steps[i - 1]?.atMs ?? atMs))]])))
}

export const panicInspect: Scenario = {
  name: 'panic-inspect',
  summary: 'a panicked host is read from another machine: log, tasks, sockets, memory, a core for gdb, a vmcore for makedumpfile',
  async run(context) {
    const { log } = context
    await requireTools(['gcc', 'gdb', 'makedumpfile', 'ib_read_bw'])
    const cluster = await startHostCluster(context, { region: { heapBytes, boxes: 3 } })
    const guest = await cluster.bootHost({ kaslr: true })
    await cluster.startHost(guest, () => startBusyHost(guest))
    const { guest: b, daemonLog } = await cluster.watching
    await startKnown(context, guest, 'known-sockets')
    const known = await startKnown(context, guest, 'known-stack')
    const reported = await reportOf(guest, known.pid)
    const calledAtMs = performance.now()
    const { panickedMs: panickedAtMs, stoppedMs } = await panicKernel(guest, cluster.ramPath)
    // A kernel that has panicked spins.
    await guest.yieldToOthers()
    const verdict = await daemonLog.until('verdict', ({ event, peer, verdict: kind, atMs }) => event === 'verdict' && peer === 'a' && kind !== 'alive' && atMs > calledAtMs)
    log(`${String(verdict.verdict)}: ${String(verdict.seen)}`)
    const recovered = await daemonLog.until('recovery', ({ event, outcome, atMs }) => event === 'recovered' && outcome === 'announced' && atMs > calledAtMs)
    log(`${String(recovered.adopted)} sessions of ${sessionBytes} bytes adopted`)
    const report: HostReport = { ...reported, console: await guest.console() }
    const { findings, inspector } = await inspectAll(b, known.pid, report, log)
    const exports = await exportAll(context, { b, nic: cluster.nic, inspector, known })
    const native = await readConnectionsNatively(cluster.ramPath, { addresses: [Uint8Array.of(127, 0, 0, 1)] })
    // Both ends of each are the host's; none has anything under way.
    if (native.connections < 2 * connections) findings.push(`of ${2 * connections} connections ${native.connections} could be taken`)
    const all = [...findings, ...exports.findings]
    const adopted = Number(recovered.adopted)
    return {
      ok: all.length === 0 && verdict.verdict === 'os-panicked' && adopted === sessions, findings: all.slice(0, 30),
      verdict: verdict.verdict, seen: verdict.seen, intervalMs: rigTimes.intervalMs, stoppedAfterMs: Math.round(stoppedMs - panickedAtMs), detectMs: Math.round(daemonLog.wasAtMs(verdict) - panickedAtMs),
      sessions, sessionBytes, adopted, adoptedAfterMs: Math.round(recovered.atMs - panickedAtMs), stepsMs: stepsOf(recovered as unknown as RecoveryReport),
      learning: inspector.learning, costs: inspector.costs, native, ...exports.figures,
    }
  },
}

async function inspectAll(b: Guest, pid: number, report: HostReport, log: (line: string) => void): Promise<{ findings: string[]; inspector: Inspector }> {
  const inspector = new Inspector(b)
  const findings = [
    ...logDiffers(report, await inspector.json('log', 'inspect', 'a', 'log')),
    ...tasksDiffer(report, await inspector.json('ps', 'inspect', 'a', 'ps')),
    ...socketsDiffer(report, await inspector.json('sockets', 'inspect', 'a', 'sockets')),
    ...memoryDiffers(report, await inspector.json('mem', 'inspect', 'a', 'mem')),
    ...panicDiffers(report, await inspector.json('panic', 'inspect', 'a', 'panic')),
    ...cpusDiffer(report, await inspector.json('cpus', 'inspect', 'a', 'cpus')),
    ...mapsDiffer(report, await inspector.run('inspect', 'a', 'maps', String(pid))),
  ]
  log(`seven views read; ${findings.length} differences`)
  return { findings, inspector }
}

interface ExportContext {
  readonly b: Guest
  readonly nic: Guest
  readonly inspector: Inspector
  readonly known: { readonly path: string; readonly pid: number }
}

async function exportAll({ log }: ScenarioContext, { b, nic, inspector, known }: ExportContext): Promise<{ findings: string[]; figures: Json }> {
  await inspector.json('core', 'core', 'a', String(known.pid), '-o', '/tmp/known-stack.core')
  const gdb = await b.check(['gdb', '-batch', '-nx', '-ex', 'info threads', '-ex', 'bt', known.path, '/tmp/known-stack.core'], { timeoutMs: commandTimeoutMs })
  const findings = backtraceDiffers(gdb)
  log('gdb has seen the core')
  const { output, ...rate } = await measureVmcore(b, nic, inspector.command('vmcore', 'a', '-o', '/tmp/a.vmcore', '--json', '--progress'))
  const vmcore = JSON.parse(output) as Json
  await b.check(['makedumpfile', '--dump-dmesg', '/tmp/a.vmcore', '/tmp/a.dmesg'], { timeoutMs: commandTimeoutMs })
  const dmesg = (await b.getFile('/tmp/a.dmesg')).toString('utf8')
  if (!dmesg.includes('Kernel panic - not syncing: sysrq triggered crash')) findings.push('makedumpfile: the log has no panic')
  log('makedumpfile has seen the vmcore')
  return { findings, figures: { vmcore: { ...vmcore, cost: undefined }, vmcoreRate: rate } }
}
