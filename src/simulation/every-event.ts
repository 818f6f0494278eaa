/** What must be true after every event of a simulation, and is cheap enough to be looked at then: in memory, whoever says or does not say anything. */
import type { Holder, Ledger } from './ledger.js'
import type { RegionLife } from './region-life.js'
import type { HeldState } from './server.js'

/** A server, as far as it matters what it holds. */
export interface Serving extends Holder {
  readonly running: boolean
  /** It was stopped within a commit, and has not gone on with it yet: it can serve nobody. */
  readonly isMidCommit: boolean
  readonly held: ReadonlyMap<string, HeldState>
  /** Reads a session as a client would, and has the ledger judge it. */
  valueOf(id: string): unknown
}

/** A machine with its present region. */
export interface HostOfServers {
  readonly life: RegionLife
  readonly servers: ReadonlyMap<string, Serving>
}

export interface EveryEventOptions {
  readonly ledger: Ledger
  readonly hosts: () => readonly HostOfServers[]
  /** Has anybody come to a verdict that condemns this generation of a box, or the node? */
  readonly isCondemned: (life: RegionLife, box: number | 'node', generation: number) => boolean
}

export class EveryEvent {
  readonly #options: EveryEventOptions
  /** What has been read of each server since bits of its memory have last rotted. */
  readonly #read = new WeakMap<Serving, { readonly rots: number; readonly states: Map<string, object | undefined> }>()
  /** Fence words as last seen: the node's, then the boxes'. */
  readonly #fences = new WeakMap<RegionLife, number[]>()
  /** Sessions that are held, as found by the check under way. */
  readonly #held = new Set<string>()

  constructor(options: EveryEventOptions) {
    this.#options = options
  }

  /** Once an invariant is broken, the first break is what counts. */
  check(): void {
    if (this.#options.ledger.violations.length > 0) return
    this.#held.clear()
    for (const { life, servers } of this.#options.hosts()) {
      this.#checkFences(life)
      for (const server of servers.values()) this.#checkServer(server)
    }
  }

  #checkServer(server: Serving): void {
    if (!server.alive || server.life.isFenced(server.box, server.generation)) return
    for (const id of server.held.keys()) {
      if (this.#held.has(id)) this.#options.ledger.checkHolders(id)
      this.#held.add(id)
    }
    this.#checkStates(server)
  }

  /** What a stopped process may have half written nobody is served before it goes on. */
  #checkStates(server: Serving): void {
    if (!server.running || server.isMidCommit) return
    const { rots } = server.life
    let read = this.#read.get(server)
    if (read?.rots !== rots) this.#read.set(server, (read = { rots, states: new Map() }))
    for (const [id, { current }] of server.held) {
      if (read.states.get(id) === current) continue
      read.states.set(id, current)
      server.valueOf(id)
    }
  }

  #checkFences(life: RegionLife): void {
    const { ledger, isCondemned } = this.#options
    const known = this.#fences.get(life) ?? []
    if (known.length === 0) this.#fences.set(life, known)
    for (let at = 0; at <= life.header.plan.boxCount; at++) {
      const box = at === 0 ? 'node' : at - 1
      const fence = life.words.fence(box)
      if (fence === (known[at] ?? 0)) continue
      known[at] = fence
      if (!isCondemned(life, box, fence)) ledger.violate('no-evidence', `the fence word of ${life.host} ${box === 'node' ? '(the node)' : `(box ${box})`} is ${fence}, and nobody had come to a verdict on it`)
    }
  }
}
