/** `backdoors daemon`: the per-machine process, in the foreground, for a supervisor such as systemd to keep. */
import type { Command } from 'commander'
import type { Daemon } from '../../daemon/daemon.js'
import { exitCodes, type ExitCode } from '../exit-codes.js'
import { describeError, type Output } from '../output.js'

const examples = `
Examples:
  backdoors daemon --config /etc/backdoors.yaml
  backdoors daemon --config node-a.json --json

With --json each event is one line: listening, watching, machine, verdict, condition, fencedUnreachable, step, recovered,
connections, failed, taken, members, reloaded, fenced, closed; atMs is CLOCK_MONOTONIC in milliseconds, the same for all processes of a machine.

SIGTERM and SIGINT end it in order; SIGHUP takes up keys and revocation list anew. When a peer has fenced this node, the daemon keeps its memory readable
until the recovery has ended and then exits with code 4: start it again, and it joins with a new region.`

const endingSignals = ['SIGTERM', 'SIGINT'] as const

export function registerDaemon(program: Command, output: Output): void {
  program
    .command('daemon')
    .description('lend this machine\'s memory, watch its peers, recover those that fail')
    .requiredOption('--config <file>', 'the configuration: YAML or JSON')
    .option('--json', 'one JSON line per event on stdout')
    .addHelpText('after', examples)
    .action(async ({ config, json }: { config: string; json?: boolean }) => {
      output.exitCode = await runDaemon(config, json === true, output)
    })
}

/** Runs until a signal or a fence ends it. */
async function runDaemon(configPath: string, json: boolean, output: Output): Promise<ExitCode> {
  const { loadConfig } = await import('../../daemon/config.js')
  const { startDaemon } = await import('../../daemon/daemon.js')
  const { monotonicMs: nowMs } = await import('../../native/clock.js')
  const config = loadConfig(configPath)
  // From here on a signal ends it in order, also one that comes while it starts.
  const signalled = endingSignal()
  const daemon = await startDaemon(config)
  const emit = (event: string, fields: object, atMs = nowMs()): void => {
    if (json) output.json({ event, atMs, ...fields })
  }
  reportEvents(daemon, emit)
  const reload = (): void => void reloadKeys(daemon, emit, output)
  process.on('SIGHUP', reload)
  const fenced = new Promise<'fenced'>((resolve) => daemon.once('fenced', () => resolve('fenced')))
  const { node, cluster, incarnation, region, fabric, peers, page } = daemon.status()
  emit('listening', { node, cluster, incarnation, region, fabric, pid: process.pid, watches: peers.map(({ peer }) => peer), ...(page ? { page } : {}) })
  if (!json) output.note(`backdoors: node ${node} lends ${region} and watches ${peers.map(({ peer }) => peer).join(', ') || 'nobody'}${page ? `; its page is ${page}` : ''}`)
  const reason = await Promise.race([signalled, fenced])
  await daemon.close()
  process.off('SIGHUP', reload)
  emit('closed', { reason })
  if (reason !== 'fenced') return exitCodes.ok
  output.note('backdoors: this node has been fenced by a peer; start the daemon again to join anew (FENCED)')
  return exitCodes.fenced
}

function reportEvents(daemon: Daemon, emit: (event: string, fields: object, atMs?: number) => void): void {
  daemon.on('watching', (peer, incarnation) => emit('watching', { peer, incarnation: incarnation.toString(16) }))
  daemon.on('machine', (peer) => emit('machine', { peer }))
  daemon.on('verdict', (peer, { kind, ...verdict }, { by, seen, sensor, opinions, held, atUs }) => {
    const server = 'box' in verdict ? { box: verdict.box, server: verdict.name, generation: verdict.generation } : {}
    emit('verdict', { peer, verdict: kind, ...server, seen, by, ...(sensor ? { sensor } : {}), ...(opinions ? { opinions } : {}), ...(held ? { held } : {}) }, atUs / 1000)
  })
  daemon.on('condition', (peer, condition, raised) => emit('condition', { peer, ...condition, raised }))
  daemon.on('fencedUnreachable', (peer, opinions, error) => emit('fencedUnreachable', { peer, opinions, ...(error === undefined ? {} : { error: describeError(error) }) }))
  daemon.on('step', (peer, target, step, atMs) => emit('step', { peer, target, step }, atMs))
  daemon.on('recovered', (report) => emit('recovered', report))
  daemon.on('connections', (report) => emit('connections', report))
  daemon.on('failed', (peer, target, error) => emit('failed', { peer, target, error: describeError(error) }))
  daemon.on('taken', (server, count) => emit('taken', { server, count }))
  daemon.on('members', (members) => emit('members', { members }))
  daemon.on('fenced', () => emit('fenced', {}))
}

/** Keys that cannot be used leave the daemon with its old ones, and the operator with the reason. */
async function reloadKeys(daemon: Daemon, emit: (event: string, fields: object) => void, output: Output): Promise<void> {
  try {
    await daemon.reloadKeys()
    emit('reloaded', { ok: true })
  } catch (error) {
    emit('reloaded', { ok: false, error: describeError(error) })
    output.note(`backdoors: the keys were not taken up: ${String(describeError(error)['message'])}`)
  }
}

/** Resolves with the first signal that asks for an end. A second one ends the process at once, as it would any other. */
function endingSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    const end = (signal: NodeJS.Signals): void => {
      for (const other of endingSignals) process.off(other, end)
      resolve(signal)
    }
    for (const signal of endingSignals) process.on(signal, end)
  })
}
