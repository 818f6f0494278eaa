/** Carries out what a scenario has planned, each fault at its time or at its step of a recovery. */
import type { RecoveryStep } from '../region/control.js'
import type { Cluster } from './cluster.js'
import type { Host } from './host.js'
import { describeFault, nodeName, serversPerNode, type Fault } from './scenario.js'
import type { Server } from './server.js'

/** Whose step it was, and of whom. */
export interface Parts {
  readonly recoverer: Host
  readonly suspect: Host
}

const slow = { delayUs: 300, jitterUs: 3000, tearProbability: 0.5, tearSpreadUs: 200 }
const lossy = { failProbability: 0.1, loseProbability: 0.02 }

export class Faults {
  readonly #cluster: Cluster
  readonly #waiting: Set<Fault>
  readonly #steps = new Map<RecoveryStep, number>()
  /** How many have struck. */
  struck = 0
  /** When the last one did, in microseconds. */
  lastUs = 0
  #ended = false

  /** @param nodes that the cluster began with */
  constructor(cluster: Cluster, faults: readonly Fault[], readonly nodes: number) {
    this.#cluster = cluster
    this.#waiting = new Set(faults.filter(({ when }) => 'step' in when))
    for (const fault of faults) if ('atUs' in fault.when) cluster.simulation.schedule(fault.when.atUs, () => this.#strike(fault, undefined))
  }

  onStep(step: RecoveryStep, parts: Parts): void {
    const count = (this.#steps.get(step) ?? 0) + 1
    this.#steps.set(step, count)
    for (const fault of this.#waiting) {
      if (!('step' in fault.when) || fault.when.step !== step || fault.when.nth !== count) continue
      this.#waiting.delete(fault)
      this.#cluster.simulation.schedule(fault.when.afterUs, () => this.#strike(fault, parts))
    }
  }

  /** No more of them from now on, be they on their way, nor of those that wait for somebody to commit. */
  end(): void {
    this.#ended = true
    this.#waiting.clear()
    for (const { daemon, servers } of this.#cluster.hosts) {
      daemon?.process.liveOn()
      for (const server of servers.values()) server.interruption = undefined
    }
  }

  #strike(fault: Fault, parts: Parts | undefined): void {
    if (this.#ended) return
    const { nodes } = this
    const host = this.#hostOf(fault, parts)
    if (host === undefined) return
    this.struck++
    this.lastUs = this.#cluster.simulation.now()
    this.#cluster.tell(`FAULT ${describeFault(fault, nodes)}${typeof fault.who === 'number' ? '' : ` = ${host.name}`}`)
    const server = host.servers.get(`web-${fault.other % serversPerNode}`)
    const effect = this.#effectOn(host, server, fault, parts)
    if (fault.midCommit !== null && server?.process.running) server.interruption = { share: fault.midCommit, then: effect }
    else effect()
  }

  /** Those that were there at the beginning have numbers. */
  #hostOf({ who }: Fault, parts: Parts | undefined): Host | undefined {
    const { hosts, joined } = this.#cluster
    if (who === 'joined') return joined.at(-1)
    return typeof who === 'number' ? hosts[who % this.nodes] : parts?.[who]
  }

  #effectOn(host: Host, server: Server | undefined, fault: Fault, parts: Parts | undefined): () => void {
    const us = fault.lastsUs ?? Infinity
    const serverName = `web-${fault.other % serversPerNode}`
    switch (fault.kind) {
      case 'kill-server': return () => host.killServer(serverName)
      case 'hang-server': return () => server?.process.stop(us)
      case 'stall-daemon': return () => host.daemon?.process.stop(us)
      case 'kill-daemon': return () => host.killDaemon(us)
      case 'die-adopting': return () => host.daemon?.process.dieAtLook(1 + (fault.other % 6), () => host.killDaemon(us))
      case 'stop-machine': return () => host.stop(us)
      case 'kill-machine': return () => host.die(us)
      case 'wake': return () => host.wake()
      case 'rot': return () => this.#rot(host)
      case 'cut-link': return () => this.#onLink(host, fault, parts, { cut: true })
      case 'slow-link': return () => this.#onLink(host, fault, parts, slow)
      case 'lossy-link': return () => this.#onLink(host, fault, parts, lossy)
      case 'join': return () => this.#cluster.join(fault.withinUs ?? 0)
      case 'leave': return () => this.#cluster.leave(host, fault.withinUs ?? 0, us)
      case 'forget-member': return () => this.#cluster.forget(host, this.#cluster.hosts[fault.other % this.#cluster.hosts.length] as Host, fault.lastsUs ?? 0)
    }
  }

  /** Of one that has a part in a recovery, the link is that between the two. */
  #onLink(host: Host, { other, lastsUs }: Fault, parts: Parts | undefined, conditions: Parameters<Cluster['network']['setLink']>[2]): void {
    const { network, simulation } = this.#cluster
    const opposite = parts === undefined ? nodeName(other % this.nodes) : (host === parts.suspect ? parts.recoverer : parts.suspect).name
    if (opposite === host.name) return
    network.setLink(host.name, opposite, conditions)
    simulation.schedule(lastsUs ?? 0, () => network.setLink(host.name, opposite))
  }

  /** What stands in its memory is its own, or was adopted and is not announced yet. */
  #rot(host: Host): void {
    for (const truth of this.#cluster.ledger.sessions.values()) {
      if (truth.home === host.life || host.daemon?.payloadOf(truth.id) !== undefined) truth.damaged = true
    }
    host.life.rot(20)
  }
}
