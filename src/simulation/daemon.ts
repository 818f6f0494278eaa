/** A simulated daemon: all of it that is not files, sockets and timers is the product's own code. */
import { pino } from 'pino'
import { isBackdoorsError } from '../errors.js'
import { quiet, type Simulation } from '../fabric/mock/simulation.js'
import type { BoxVerdict, Evidence, NodeVerdict } from '../monitor/verdict.js'
import { abandonedBoxes, BoxOwner, markExited } from '../region/box-owner.js'
import { decodeClaim, type RecoveryStep } from '../region/control.js'
import type { Region } from '../region/region.js'
import type { SessionVersion } from '../region/session-record.js'
import { safeguardsWithout, type Canary } from '../safeguards.js'
import { AdoptionNotes } from '../recovery/adoption-notes.js'
import type { RecoveryTarget } from '../recovery/recover.js'
import { Witnesses, type Written } from '../recovery/witness.js'
import { ClaimHolders } from '../daemon/claim-holders.js'
import { parseConfig, type DaemonConfig, type PeerConfig } from '../daemon/config.js'
import type { DaemonTime } from '../daemon/daemon-time.js'
import { Handover, type LocalServer } from '../daemon/handover.js'
import { daemonBoxName, lendWhileRecovered, osSensorName } from '../daemon/own-region.js'
import { lookWithinMs, observeHandler } from '../daemon/watching/observers.js'
import type { MemberFiles } from '../daemon/membership/member-files.js'
import { FileMembership } from '../daemon/membership/file-membership.js'
import { PeerWatcher } from '../daemon/watching/peer-watcher.js'
import { PlanFollower } from '../daemon/watching/plan-follower.js'
import { Unwatching } from '../daemon/watching/unwatching.js'
import { RecoveryRunner, type RecoveryEvents } from '../daemon/recovery-runner.js'
import { fencingConfig, type Fencing, type FencingPlan } from './fencing.js'
import { membersPath, type MembersFile } from './members.js'
import { SimulatedFabric, type Network, type SimulatedLink } from './network.js'
import { Process } from './process.js'
import type { RegionLife } from './region-life.js'
import { storeName, type Server } from './server.js'
import { ms, timing } from './timing.js'

const silent = pino({ level: 'silent' })

export interface DaemonEvents {
  readonly onVerdict: (daemon: Daemon, life: RegionLife, verdict: NodeVerdict | BoxVerdict, evidence: Evidence) => void
  readonly onStep: (daemon: Daemon, life: RegionLife, target: RecoveryTarget, step: RecoveryStep) => void
  readonly tell: (what: string) => void
}

export interface DaemonOptions {
  readonly simulation: Simulation
  readonly network: Network
  readonly life: RegionLife
  /** How many nodes the cluster began with. */
  readonly nodes: number
  /** The machine's file of the members. */
  readonly membersFile: MembersFile
  readonly watched: number
  readonly canary: Canary | undefined
  readonly fencing: Fencing
  /** How its recoveries fence from outside; null where they do not. */
  readonly fencingPlan: FencingPlan | null
  /** By the incarnation that a link is to. */
  readonly lifeOf: (incarnation: bigint) => RegionLife
  readonly events: DaemonEvents
  /** In an earlier region of the node, as `OwnRegion` takes it up. */
  readonly written: Written
  /** The node was fenced, and its memory is needed no more. */
  readonly onFenced: () => void
}

export class Daemon {
  readonly process: Process
  readonly life: RegionLife
  readonly startedUs: number
  readonly box: BoxOwner
  /** Answers what this node sees of another. */
  readonly observe: (body: unknown, peer: string) => Promise<unknown>
  readonly notes: AdoptionNotes
  readonly witnesses: Witnesses
  readonly watchers: PeerWatcher[] = []
  readonly #claimHolders = new ClaimHolders(this.watchers, () => this.members)
  readonly #membership: FileMembership
  readonly #unwatching = new Unwatching(this.watchers, silent)
  readonly #plan: PlanFollower<PeerWatcher>
  readonly #stops: (() => void)[] = []
  #isLeaving = false
  readonly #options: DaemonOptions
  readonly #config: DaemonConfig
  readonly #region: Region
  readonly #handover: Handover
  readonly #runner: RecoveryRunner
  readonly #fabric: SimulatedFabric
  readonly #time: DaemonTime
  /** Whose memory the recoveries are of that are under way, or wait for their turn. */
  readonly #recovered: RegionLife[] = []

  /** @throws BackdoorsError FENCED: it has to make a new region first */
  constructor(options: DaemonOptions) {
    const { simulation, life, network, canary, events } = options
    this.#options = options
    this.life = life
    this.startedUs = simulation.now()
    this.process = new Process(simulation, `${life.host}/daemon`)
    this.#config = configOf(options)
    this.#region = life.open()
    this.box = BoxOwner.take(this.#region, { name: daemonBoxName, daemon: true, nowMs: this.process.nowMs, safeguards: safeguardsWithout(canary) })
    this.process.onEnd(() => life.release(this.#region))
    this.#time = timeOf(simulation, this.process)
    const handler = observeHandler((name) => this.watchers.find(({ peer }) => peer.name === name), lookWithinMs(timing.unreachableAfterUs / ms), this.#time)
    this.observe = async (body, peer) => handler(body, { peer, signal: new AbortController().signal })
    this.#fabric = new SimulatedFabric(network, life, this.process)
    this.#membership = this.#openMembership()
    this.#plan = new PlanFollower({
      node: life.host, k: this.#config.watch.peers, watchers: this.watchers, unwatching: this.#unwatching,
      members: () => this.members,
      isHolder: (name) => this.#claimHolders.has(name),
      make: (peer) => this.#watcherFor(peer),
    })
    this.#handover = new Handover(this.box, {
      onTaken: (server, count) => events.tell(`${server} takes ${count} over`),
      onKept: (server, sessions) => events.tell(`${server} has of its own: ${sessions.map(({ id }) => id).join(', ')}`),
      onDamaged: (error) => events.tell(`the daemon of ${life.host} holds a damaged session: ${error.details.sessionId ?? ''}`),
    }, () => simulation.now() / ms)
    this.notes = new AdoptionNotes(this.box)
    this.notes.inherit(options.written.notes)
    this.witnesses = new Witnesses(this.box)
    this.witnesses.tellOn(options.written.witnessed)
    const recoveryEvents: RecoveryEvents = {
      log: silent,
      onStep: (_peer, target, step) => this.#onStep(target, step),
      onReport: ({ peer, target, outcome, adopted }) => events.tell(`${life.host} has done with ${peer} ${nameOf(target)}: ${outcome}, ${adopted} adopted`),
      // It may go on all the same: not all fencing is required.
      onFailure: (peer, target, error) => events.tell(`${life.host} fails to recover ${peer} ${nameOf(target)}: ${error instanceof Error ? error.message : String(error)}`),
    }
    const addresses = { answered: () => Promise.resolve(new Map()), heldBy: () => Promise.resolve([]), takeOver: () => undefined }
    this.#runner = new RecoveryRunner({
      config: this.#config, own: this, handover: this.#handover, addresses, events: recoveryEvents, claimHolders: this.#claimHolders, time: this.#time,
      fenceExternally: (_, node) => options.fencing.fence(node, this.process, options.fencingPlan as FencingPlan),
    })
    this.#start()
  }

  /** As `RecoveryRunner` asks it. */
  get fenced(): boolean {
    return this.box.fenced
  }

  /** Does it do its work: could it be relied on to recover others? */
  get active(): boolean {
    return this.process.running && !this.#isLeaving && !this.life.fenced && !this.life.lost
  }

  /** The other nodes of the cluster, as far as it knows. */
  get members(): readonly PeerConfig[] {
    return this.#membership.current
  }

  /** May this peer enroll with it? */
  lendsTo(name: string): boolean {
    return this.#fabric.lendsTo(name)
  }

  /** Does it recover anybody, or mean to try again, or look after another's recovery? */
  get isBusy(): boolean {
    return this.#recovered.length > 0 || this.watchers.some(({ isBusy }) => isBusy)
  }

  /** Bytes of a session that it has adopted and no server has taken yet; undefined where it has none, or a damaged one. */
  payloadOf(id: string): Uint8Array | undefined {
    return this.#adopted(id)?.payload
  }

  /** Can it tell what is written in that memory, be it gone? */
  hasWitnessed({ host, header }: RegionLife): boolean {
    return this.process.lookInto(() => this.witnesses.all().some(({ of, ofIncarnation }) => of === host && ofIncarnation === header.incarnation.toString(16)))
  }

  #adopted(id: string): SessionVersion | undefined {
    try {
      return this.process.lookInto(() => this.box.sessions.get(this.box.sessions.store(storeName), id))
    } catch (error) {
      if (isBackdoorsError(error, 'RECORD_CORRUPT')) return undefined
      throw error
    }
  }

  /** A server has connected to this daemon's socket. */
  attach(server: Server): void {
    const { simulation } = this.#options
    const local: LocalServer = {
      name: server.name, box: server.box, generation: server.generation, stores: new Set([storeName]),
      offer: (offer, _from, sessions) => {
        simulation.schedule(timing.localMessageUs, () => server.process.whenRunning(() => {
          const notTaken = server.offered(sessions)
          if (notTaken) simulation.schedule(timing.localMessageUs, () => this.#locally(() => this.#handover.taken(offer, local, notTaken)))
          return quiet
        }))
      },
    }
    simulation.schedule(timing.localMessageUs, () => this.#locally(() => {
      if (server.alive) this.#handover.join(local)
    }))
    server.process.onEnd(() => simulation.schedule(timing.localMessageUs, () => this.#locally(() => this.#handover.leave(local))))
  }

  /** Whom it watches, each by the region that it is linked to and not cut off from. */
  get links(): { readonly watcher: PeerWatcher; readonly incarnation: bigint }[] {
    return this.watchers.flatMap((watcher) => ((watcher.link as SimulatedLink | undefined)?.isLent() ? [{ watcher, incarnation: (watcher.link as SimulatedLink).header.incarnation }] : []))
  }

  #locally(run: () => void): unknown {
    return this.process.whenRunning(() => {
      run()
      return quiet
    })
  }

  #start(): void {
    const { simulation } = this.#options
    const os = this.box.sensor({ name: osSensorName, kind: 'progress', deadlineUs: timing.deadlineUs })
    this.process.every(timing.beatEveryUs, () => {
      if (os.beat()) this.life.osBeats.beat(simulation.now())
      return quiet
    })
    this.notes.giveUpAll()
    this.#handover.resume()
    this.#fabric.setMembers(this.members)
    this.#stops.push(
      this.process.every(timing.lookAfterEveryUs, () => this.#lookAfterOwn()),
      this.process.later(0, () => this.#plan.follow()),
      this.process.every(timing.planEveryUs, () => this.#plan.follow()),
    )
    this.#membership.start()
  }

  /** As `Daemon.close` does it (`src/daemon/daemon.ts`): an orderly end. Never resolves where the process dies before it. */
  async leave(): Promise<void> {
    this.#isLeaving = true
    for (const stop of this.#stops) stop()
    await this.#unwatching.settled()
    await Promise.all(this.watchers.map((watcher) => watcher.close()))
    await this.#runner.settled()
    await this.#membership.close()
    await lendWhileRecovered(this.#region, this.#time)
    await this.process.gate()
    if (this.life.node.alive) this.life.node.die()
    this.box.close()
    this.process.kill()
  }

  #openMembership(): FileMembership {
    const { membersFile, life, events } = this.#options
    const files: MemberFiles = {
      stamp: () => membersFile.stamp(),
      read: () => membersFile.read(),
      watchFolder: (folder, onChange) => membersFile.watchFolder(folder, () => void this.#locally(onChange)),
    }
    return new FileMembership(membersPath, this.#config, {
      onChange: () => {
        events.tell(`${life.host} knows of ${this.members.map(({ name }) => name).join(', ') || 'nobody'}`)
        this.#fabric.setMembers(this.members)
        this.#plan.follow()
      },
      onTrouble: (error) => { throw error },
      onWell: () => undefined,
      onNote: () => undefined,
    }, { files, time: this.#time })
  }

  #watcherFor(peer: PeerConfig): PeerWatcher {
    return new PeerWatcher(this.#config, peer, this.#fabric, {
      onWatching: () => undefined,
      onMachine: () => undefined,
      onVerdict: (name, verdict, evidence) => this.#onVerdict(name, verdict, evidence),
      recover: (link, target) => {
        this.#recovered.push(this.#options.lifeOf(link.header.incarnation))
        const run = this.#runner.recover(link, target)
        void run.then(() => this.#recovered.shift())
        return run
      },
      lookAtClaim: (link, target) => this.#runner.lookAtClaim(link, target),
      onCondition: () => undefined,
      members: () => (this.#membership.isKnown ? this.members : undefined),
      observers: this.#fabric.observers,
      fence: this.#config.recovery.fenceUnreachable ? (name) => this.#fenceUnreachable(name) : undefined,
      onFenced: () => undefined,
      log: silent,
    }, this.#time)
  }

  #fenceUnreachable(name: string): Promise<void> {
    this.#options.fencing.checkUnreachable(name, this.life.host)
    return this.#runner.fenceUnreachable(name)
  }

  #lookAfterOwn(): unknown {
    const { life } = this
    for (const { box, entry } of abandonedBoxes(this.#region)) markExited(this.#region, box, entry.generation)
    this.#handover.settle()
    if (this.fenced && decodeClaim(life.words.claim('node'))?.step === 'announced') this.#options.onFenced()
    return quiet
  }

  #lifeOf(peer: string): RegionLife | undefined {
    const incarnation = this.watchers.find((watcher) => watcher.peer.name === peer)?.link?.header.incarnation
    return incarnation === undefined ? undefined : this.#options.lifeOf(incarnation)
  }

  #onVerdict(peer: string, verdict: NodeVerdict | BoxVerdict, evidence: Evidence): void {
    const life = this.#lifeOf(peer)
    if (life) this.#options.events.onVerdict(this, life, verdict, evidence)
  }

  /** Recoveries run one at a time, in the order in which they were asked for; a link may be a newer one by then. */
  #onStep(target: RecoveryTarget, step: RecoveryStep): void {
    const life = this.#recovered[0]
    if (life) this.#options.events.onStep(this, life, target, step)
  }
}

export const nameOf = (target: RecoveryTarget): string => (target.kind === 'node' ? '(the node)' : `(box ${target.box}, generation ${target.generation})`)

function configOf({ life, nodes, watched, canary, fencingPlan }: DaemonOptions): DaemonConfig {
  return parseConfig({
    node: life.host,
    cluster: life.header.cluster,
    membership: { file: membersPath },
    watch: {
      peers: watched, intervalUs: timing.sampleEveryUs, osDeadlineMs: timing.deadlineUs / ms,
      unreachableAfterMs: timing.unreachableAfterUs / ms, refreshMs: timing.refreshEveryUs / ms,
    },
    ...(fencingPlan ? { recovery: fencingConfig(fencingPlan, nodes) } : {}),
    log: 'silent',
    ...(canary ? { canary } : {}),
  })
}

function timeOf(simulation: Simulation, process: Process): DaemonTime {
  return {
    nowUs: simulation.now,
    every: (everyMs, run) => process.every(everyMs * ms, run),
    later: (afterMs, run) => process.later(afterMs * ms, run),
    pause: (pauseMs) => new Promise((resolve) => void process.later(pauseMs * ms, resolve)),
  }
}
