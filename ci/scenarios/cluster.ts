/** A cluster of guests: a daemon on each over verbs, example servers, and clients that keep ledgers. */
import { mkdirSync, mkdtempSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { initAuthority, issueNode } from '../../src/keys/index.js'
import type { DaemonConfigInput } from '../../src/daemon/config.js'
import type { RecoveryStep } from '../../src/region/control.js'
import type { Guest } from '../guest.js'
import type { GuestProcess } from '../guest-process.js'
import { guestProgram } from '../guest-programs.js'
import { answerTimeout, readTimeoutMs } from '../link-times.js'
import type { LoadArguments, LoadJudgement } from '../load-clients.js'
import type { ScenarioContext } from '../scenario.js'

export const daemonPort = 7471
const serverPort = 7480
export const regionOf = (node: string): string => `/dev/shm/backdoors-${node}`

/**
 * Emulated processors are some ten times slower than real ones, and answer each read themselves: so these are longer
 * than anybody would choose for machines. In milliseconds.
 */
export const rigTimes = { intervalMs: 50, osDeadlineMs: 3000, serverDeadlineMs: 3000, unreachableAfterMs: 2000, refreshMs: 1000, silenceMs: 4000 } as const

/** A JSON line that a process printed, and when it came in by the rig's own clock, in milliseconds. */
export interface RigEvent {
  readonly atMs: number
  /** When it was, by the clock of the process's own machine. */
  readonly ownAtMs?: number
  readonly event: string
  readonly [field: string]: unknown
}

export class EventLog {
  readonly events: RigEvent[] = []
  readonly #waiting = new Set<() => void>()
  #ended: string | undefined

  constructor(process: GuestProcess) {
    void process.closed.then(
      ({ code, signal, stderr }) => `it ended with ${code ?? signal}: ${stderr.slice(-500)}`,
      (error: unknown) => (error instanceof Error ? error.message : String(error)),
    ).then((ended) => {
      this.#ended = ended
      for (const wake of this.#waiting) wake()
    })
    process.on('line', (text: string, stream: string) => {
      if (stream !== 'stdout' || !text.startsWith('{')) return
      const { atMs: ownAtMs, ...event } = JSON.parse(text) as { event: string; atMs?: number }
      this.events.push({ ...event, ...(ownAtMs === undefined ? {} : { ownAtMs }), atMs: performance.now() })
      for (const wake of this.#waiting) wake()
    })
  }

  find(matches: (event: RigEvent) => boolean): RigEvent | undefined {
    return this.events.find(matches)
  }

  /** Looks at what came already, too. @throws where nothing matched within `timeoutMs` */
  async until(what: string, matches: (event: RigEvent) => boolean, timeoutMs = 120_000): Promise<RigEvent> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => finish(() => reject(this.#missing(what, `not within ${timeoutMs} ms`))), timeoutMs)
      const finish = (settle: () => void): void => {
        clearTimeout(timer)
        this.#waiting.delete(look)
        settle()
      }
      const look = (): void => {
        const found = this.find(matches)
        if (found) finish(() => resolve(found))
        else if (this.#ended !== undefined) finish(() => reject(this.#missing(what, this.#ended ?? '')))
      }
      this.#waiting.add(look)
      look()
    })
  }

  /**
   * When an event was, by the rig's clock: a line takes a while to come here, and longer from a machine that is busy. The line that
   * took least tells how far the two clocks are apart; what it took itself is still in the answer, which is late by that, never early.
   */
  wasAtMs({ ownAtMs, atMs }: RigEvent): number {
    if (ownAtMs === undefined) return atMs
    const apartMs = this.events.map((event) => (event.ownAtMs === undefined ? Infinity : event.atMs - event.ownAtMs))
    return ownAtMs + apartMs.reduce((least, each) => Math.min(least, each))
  }

  #missing(what: string, why: string): Error {
    return new Error(`no ${what}: ${why}; its last words: ${this.events.slice(-5).map((event) => JSON.stringify(event)).join(' ')}`)
  }
}

export interface ClusterNode {
  readonly name: string
  readonly guest: Guest
  readonly daemon: GuestProcess
  readonly daemonLog: EventLog
  readonly server: GuestProcess
  readonly serverLog: EventLog
}

/** Guests that nothing runs in yet, and a certificate for each. */
export interface ClusterGuests<Names extends readonly string[] = readonly string[]> {
  readonly names: Names
  readonly guests: readonly Guest[]
  readonly keys: string
}

/** What is particular to one node of a cluster. */
export interface NodeVariant {
  readonly watch?: DaemonConfigInput['watch']
  readonly recovery?: DaemonConfigInput['recovery']
  readonly serverDeadlineMs?: number
  /** The daemon sends itself this signal when it tells of this step of its recovery of that peer. */
  readonly signalAt?: { readonly peer: string; readonly step: RecoveryStep; readonly signal: 'SIGSTOP' | 'SIGKILL' }
}

/** Boots a guest for each name, and starts a daemon and a server in each; every node watches all others. */
export async function startCluster<const Names extends readonly string[]>(context: ScenarioContext, names: Names): Promise<{ [Index in keyof Names]: ClusterNode }> {
  return await startNodes(context, await bootGuests(context, names))
}

export async function bootGuests<const Names extends readonly string[]>(context: ScenarioContext, names: Names): Promise<ClusterGuests<Names>> {
  const guests = await context.boot(names, { memoryMiB: 768 })
  return { names, guests, keys: await makeKeys(context, names) }
}

/** Starts a daemon and a server in each of the guests, whose regions are new. */
export async function startNodes<const Names extends readonly string[]>(context: ScenarioContext, cluster: ClusterGuests<Names>, variants: Readonly<Record<string, NodeVariant>> = {}): Promise<{ [Index in keyof Names]: ClusterNode }> {
  const { names } = cluster
  const nodes = await Promise.all(names.map((name, i) => startNode(context, cluster, i, variants[name])))
  context.log('daemons and servers run')
  await Promise.all(nodes.flatMap(({ name, daemonLog }) =>
    names.filter((peer) => peer !== name).map((peer) => daemonLog.until(`link from ${name} to ${peer}`, ({ event, peer: linked }) => event === 'watching' && linked === peer)),
  ))
  context.log('every node watches the others over RDMA')
  return nodes as { [Index in keyof Names]: ClusterNode }
}

async function startNode(context: ScenarioContext, cluster: ClusterGuests, index: number, variant: NodeVariant = {}): Promise<ClusterNode> {
  const [name, guest] = [cluster.names[index] as string, cluster.guests[index] as Guest]
  await guest.check(['rm', '-f', regionOf(name)])
  const daemon = await startDaemon(context, guest, clusterConfig(cluster, index, variant), variant.signalAt)
  return { name, guest, ...daemon, ...(await startServer(name, guest, variant.serverDeadlineMs)) }
}

/** Starts the node's daemon again, on the region that is there. */
export async function restartDaemon(context: ScenarioContext, cluster: ClusterGuests, { name, guest }: ClusterNode): Promise<Pick<ClusterNode, 'daemon' | 'daemonLog'>> {
  return await startDaemon(context, guest, clusterConfig(cluster, cluster.names.indexOf(name)))
}

function clusterConfig({ names, guests, keys }: ClusterGuests, index: number, { watch, recovery }: NodeVariant = {}): DaemonConfigInput {
  const [name, guest] = [names[index] as string, guests[index] as Guest]
  const peers = names.flatMap((peer, i) => (i === index ? [] : [{ name: peer, host: (guests[i] as Guest).ip, port: daemonPort }]))
  const config = rigConfig(name, peers.length)
  return { ...config, ...overVerbs(name, guest, keys), peers, watch: { ...config.watch, ...watch }, recovery: recovery ?? {} }
}

/** Everything of the node that runs stops, and its memory stays: as of a machine whose kernel hangs. */
export function hang({ daemon, server }: ClusterNode): void {
  for (const process of [server, daemon]) process.kill('SIGSTOP')
}

/** It runs on, and has to find out that it is nobody any more. @returns whether server and daemon did */
export async function wakeFenced({ daemon, daemonLog, server, serverLog }: ClusterNode): Promise<boolean> {
  for (const process of [daemon, server]) process.kill('SIGCONT')
  const isFenced = (log: EventLog): Promise<boolean> => log.until('word that it is fenced', ({ event }) => event === 'fenced').then(() => true, () => false)
  return (await Promise.all([daemonLog, serverLog].map(isFenced))).every(Boolean)
}

/** Ends what is left of the nodes, so that others can be started in the same guests. */
export async function endNodes(nodes: readonly ClusterNode[]): Promise<void> {
  const processes = nodes.flatMap(({ daemon, server }) => [daemon, server])
  for (const process of processes) process.kill('SIGKILL')
  await Promise.all(processes.map(({ exited }) => exited))
}

/**
 * Geometry and times of every daemon of the rig. One emulated processor reads the memory of so many nodes, and answers as many: where that
 * would be all that it does, it reads more seldom.
 */
export const rigConfig = (node: string, watched: number): DaemonConfigInput => ({
  node, cluster: 'rig', log: 'info',
  region: { path: regionOf(node), boxes: 4, sensorsPerBox: 8, sessionsPerBox: 2048, heapBytes: 8 << 20 },
  watch: { peers: watched, intervalUs: rigTimes.intervalMs * (watched > 2 ? 4000 : 1000), osDeadlineMs: rigTimes.osDeadlineMs, unreachableAfterMs: rigTimes.unreachableAfterMs, refreshMs: rigTimes.refreshMs },
})

export const overVerbs = (node: string, { ip }: Guest, keys: string): Pick<DaemonConfigInput, 'fabric' | 'verbs' | 'keys' | 'listen'> => ({
  fabric: 'verbs', verbs: { device: 'rxe0', timeoutMs: readTimeoutMs, queuePairs: { timeout: answerTimeout } }, keys: join(keys, 'nodes', node), listen: { host: ip, port: daemonPort },
})

/** Makes the cluster's authority, and a certificate for each name. @returns their folder */
export async function makeKeys(context: ScenarioContext, names: readonly string[]): Promise<string> {
  // One scenario may need several clusters, one after another.
  const keys = mkdtempSync(join(context.runPath, 'keys-'))
  await initAuthority(keys, { cluster: 'rig' })
  for (const name of names) await issueNode(keys, name)
  return keys
}

export async function startDaemon(context: ScenarioContext, guest: Guest, config: DaemonConfigInput, signalAt?: NodeVariant['signalAt']): Promise<Pick<ClusterNode, 'daemon' | 'daemonLog'>> {
  const folder = join(context.runPath, 'configs')
  mkdirSync(folder, { recursive: true })
  // Guests keep what they have read of a file, and would find the contents of before under the same name.
  const configPath = join(folder, `${readdirSync(folder).length}-${guest.name}.json`)
  writeFileSync(configPath, JSON.stringify(config))
  const signalling = signalAt ? ['--import', fileURLToPath(new URL('../programs/signal-at-step.js', import.meta.url))] : []
  const env = signalAt ? { SIGNAL_AT_PEER: signalAt.peer, SIGNAL_AT_STEP: signalAt.step, SIGNAL: signalAt.signal } : {}
  const daemon = await guest.spawn([...guestProgram('src/cli/main', ...signalling), 'daemon', '--config', configPath, '--json'], { env })
  const daemonLog = new EventLog(daemon)
  await daemonLog.until(`daemon of ${config.node}`, ({ event }) => event === 'listening')
  return { daemon, daemonLog }
}

export async function startServer(node: string, guest: Guest, deadlineMs: number = rigTimes.serverDeadlineMs): Promise<Pick<ClusterNode, 'server' | 'serverLog'>> {
  const serverArguments = { node, region: regionOf(node), host: guest.ip, port: serverPort, deadlineMs }
  const server = await guest.spawn([...guestProgram('src/cli/demo/server'), JSON.stringify(serverArguments)])
  const serverLog = new EventLog(server)
  await serverLog.until(`server of ${node}`, ({ event }) => event === 'serving')
  return { server, serverLog }
}

/** Clients that keep ledgers. */
export interface LoadClients {
  readonly process: GuestProcess
  readonly log: EventLog
}

/** Clients in one guest; their sessions are made at `home`. Resolves when all are made. */
export async function startClients(at: ClusterNode, home: ClusterNode, others: readonly ClusterNode[], sessions: number, load: Partial<LoadArguments> = {}): Promise<LoadClients> {
  const args: LoadArguments = {
    servers: [home, ...others].map(({ name, guest }) => ({ node: name, host: guest.ip, port: serverPort })),
    sessions, seed: 1, thinkMs: 1000, silenceMs: rigTimes.silenceMs, ...load,
  }
  const process_ = await at.guest.spawn([...guestProgram('ci/load-clients'), JSON.stringify(args)])
  const log = new EventLog(process_)
  await log.until('sessions made', ({ event }) => event === 'made')
  return { process: process_, log }
}

/** Commits that the clients have had acknowledged so far. */
export async function countAcknowledged({ process: clients, log }: LoadClients): Promise<number> {
  const askedAtMs = performance.now()
  clients.write('count\n')
  const { acknowledged } = await log.until('count', ({ event, atMs }) => event === 'count' && atMs > askedAtMs)
  return Number(acknowledged)
}

export type Judgement = Omit<LoadJudgement, 'event'>

/** Nothing was lost, served by two, or made up: what no failure may cost. */
export const isUnharmed = ({ lost, servedTwice, invented }: Pick<Judgement, 'lost' | 'servedTwice' | 'invented'>): boolean => lost === 0 && servedTwice === 0 && invented === 0

/** Stops the clients and asks every server for every session. */
export async function judge({ process: clients, log }: LoadClients): Promise<Judgement> {
  clients.write('stop\n')
  const { event: _event, atMs: _atMs, ...judgement } = await log.until('judgement', ({ event }) => event === 'judged')
  return judgement as unknown as Judgement
}
