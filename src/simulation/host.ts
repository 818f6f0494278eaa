/** A simulated machine: its daemon, its servers, and what becomes of them when it hangs, dies, or starts again. */
import { isBackdoorsError } from '../errors.js'
import type { Simulation } from '../fabric/mock/simulation.js'
import { nothingWritten, writtenIn, type Written } from '../recovery/witness.js'
import type { Canary } from '../safeguards.js'
import { safeguardsWithout } from '../safeguards.js'
import { Daemon, type DaemonOptions } from './daemon.js'
import type { Ledger } from './ledger.js'
import { Process } from './process.js'
import { type RegionLife } from './region-life.js'
import { Server } from './server.js'
import { timing } from './timing.js'

export interface HostOptions extends Pick<DaemonOptions, 'simulation' | 'network' | 'nodes' | 'membersFile' | 'watched' | 'lifeOf' | 'events' | 'fencing' | 'fencingPlan'> {
  readonly name: string
  readonly serverNames: readonly string[]
  readonly canary: Canary | undefined
  readonly ledger: Ledger
  /** A region is made: gives it an incarnation of its own. */
  readonly newLife: (host: string) => RegionLife
  /** Called in the midst of each commit of its servers. */
  readonly midCommit: (server: { readonly life: RegionLife; readonly box: number; readonly generation: number }) => void
}

export class Host {
  readonly name: string
  readonly servers = new Map<string, Server>()
  daemon: Daemon | undefined
  life: RegionLife
  /** What starts the other processes again; it stops and dies with the machine. */
  system: Process
  readonly #options: HostOptions
  #hasLeft = false
  /** The daemon that was told to end in order last. */
  #leaver: Daemon | undefined

  constructor(options: HostOptions) {
    this.#options = options
    this.name = options.name
    this.system = new Process(this.#simulation, `${this.name}/system`)
    this.life = options.newLife(this.name)
    this.#startDaemon()
    for (const name of options.serverNames) this.#startServer(name)
  }

  get #simulation(): Simulation {
    return this.#options.simulation
  }

  /** Does all of it run, so that it can be relied on to watch, and to serve? */
  get up(): boolean {
    return this.system.running && this.daemon?.active === true
  }

  /** Has its daemon been ended in order, for as long as the machine is no member? Its servers serve on. */
  get hasLeft(): boolean {
    return this.#hasLeft
  }

  /** Has its daemon been told to end in order, and is about to? */
  get isLeaving(): boolean {
    return this.#leaver !== undefined && this.#leaver === this.daemon && this.#leaver.process.alive
  }

  /** Its daemon is told to end in order. @param onLeft it has; not called where the machine fails before it */
  leave(onLeft: () => void): void {
    const { daemon, life } = this
    if (!this.up || daemon === undefined) return
    this.#leaver = daemon
    void daemon.leave().then(() => {
      this.#hasLeft = true
      life.leftUs = this.#simulation.now()
      onLeft()
    })
  }

  /** It is a member again, and its daemon starts with what the last one left. */
  comeBack(): void {
    if (!this.#hasLeft) return
    this.#hasLeft = false
    this.life.leftUs = undefined
    this.life.osBeats.resume(this.#simulation.now())
    if (!this.system.alive) return
    if (this.life.lost) this.#begin()
    else this.#takeUp()
  }

  /** The operating system hangs: nothing of it runs, its memory can be read. @param us `Infinity` for good */
  stop(us: number): void {
    for (const process of this.#processes()) process.stop(us)
  }

  wake(): void {
    for (const process of this.#processes()) process.wake()
  }

  /** The machine is reset or loses power; it starts again after so long. @param us `Infinity` for never */
  die(us: number): void {
    this.life.lose()
    for (const process of this.#processes()) process.kill()
    this.daemon = undefined
    if (Number.isFinite(us)) this.#simulation.schedule(us, () => this.#boot())
  }

  killServer(name: string): void {
    const server = this.servers.get(name)
    if (!server?.alive) return
    server.process.kill()
    this.system.later(timing.restartUs, () => this.#startServer(name))
  }

  /** Its queue pairs end with it, so that its memory cannot be read until it is there again. */
  killDaemon(us: number): void {
    const { daemon } = this
    if (!daemon?.process.alive) return
    daemon.process.kill()
    if (this.life.node.alive) this.life.node.die()
    this.system.later(us, () => this.#takeUp())
  }

  #processes(): Process[] {
    return [this.system, ...(this.daemon ? [this.daemon.process] : []), ...[...this.servers.values()].map(({ process }) => process)]
  }

  #boot(): void {
    // Whatever brings it back found it running already: it died twice.
    if (this.system.alive) return
    this.system = new Process(this.#simulation, `${this.name}/system`)
    if (!this.#hasLeft) this.#begin()
  }

  #begin(): void {
    this.#renew()
    for (const name of this.#options.serverNames) this.#startServer(name)
  }

  /** A daemon that starts takes up the region of the last one, unless it has been fenced. */
  #takeUp(): void {
    if (this.daemon?.process.alive || this.#hasLeft) return
    if (this.life.fenced) return this.#renew(writtenIn(this.life.open()))
    this.life.node.revive()
    this.#startDaemon()
  }

  /** @param written in the last region */
  #renew(written: Written = nothingWritten): void {
    this.life.lose()
    this.life = this.#options.newLife(this.name)
    // What was kept from the clients is gone.
    this.#options.network.openPort(this.name)
    this.#startDaemon(written)
  }

  #startDaemon(written: Written = nothingWritten): void {
    const { simulation, network, nodes, membersFile, watched, canary, lifeOf, events, fencing, fencingPlan } = this.#options
    const { life } = this
    const daemon = new Daemon({
      simulation, network, life, nodes, membersFile, watched, canary, lifeOf, events, fencing, fencingPlan, written,
      onFenced: () => {
        if (this.daemon !== daemon || !daemon.process.alive) return
        events.tell(`${this.name} was fenced and recovered: its daemon starts anew`)
        daemon.process.kill()
        this.life.lose()
        this.system.later(timing.restartUs, () => this.#takeUp())
      },
    })
    this.daemon = daemon
    for (const server of this.servers.values()) if (server.alive && server.life === life) daemon.attach(server)
  }

  #startServer(name: string): void {
    if (this.servers.get(name)?.alive) return
    const { simulation, ledger, canary, midCommit, events } = this.#options
    const { life } = this
    try {
      const server: Server = new Server({
        simulation, ledger, name, life, safeguards: safeguardsWithout(canary),
        onFenced: () => {
          if (!server.alive) return
          events.tell(`${server.name} finds itself fenced, and ends`)
          this.killServer(name)
        },
        midCommit: () => midCommit(server),
      })
      this.servers.set(name, server)
      for (const id of server.held.keys()) ledger.checkHolders(id)
      if (this.daemon?.process.alive && this.daemon.life === life) this.daemon.attach(server)
    } catch (error) {
      if (!isBackdoorsError(error, 'FENCED', 'BOXES_EXHAUSTED', 'BOX_IN_USE')) throw error
      // Its node or its box is fenced: it can start when the daemon has a new region, or the box has been recovered.
      this.system.later(timing.restartUs, () => this.#startServer(name))
    }
  }
}
