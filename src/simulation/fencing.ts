/** Fencing from outside: a switch that closes the port by which a machine's clients reach it. Its memory can be read as before. */
import { BackdoorsError } from '../errors.js'
import type { Ledger } from './ledger.js'
import type { Host } from './host.js'
import type { Network } from './network.js'
import type { Process } from './process.js'
import { ms, timing } from './timing.js'

/** How a scenario's machines are fenced from outside. */
export interface FencingPlan {
  /** Does a recovery wait until it has succeeded? */
  readonly required: boolean
  readonly takesUs: number
  /** The first ones fail. */
  readonly failures: number
}

/** From what was seen, and asked of others, to the fence: so old may be what a watcher that was not stopped goes by. In microseconds. */
const evidenceUs = 1200 * ms

export interface FencingOptions {
  readonly network: Network
  readonly ledger: Ledger
  readonly nowUs: () => number
  readonly hosts: () => readonly Host[]
  readonly tell: (what: string) => void
}

export class Fencing {
  readonly #options: FencingOptions
  #failuresLeft: number

  constructor(options: FencingOptions, plan: FencingPlan | null) {
    this.#options = options
    this.#failuresLeft = plan?.failures ?? 0
  }

  /** The command that a daemon runs. @throws BackdoorsError FENCE_FAILED */
  async fence(node: string, by: Process, { takesUs }: FencingPlan): Promise<void> {
    const { network, tell } = this.#options
    await new Promise<void>((resolve) => void by.later(takesUs, resolve))
    if (this.#failuresLeft > 0) {
      this.#failuresLeft--
      tell(`${by.name} cannot fence ${node} from outside`)
      throw new BackdoorsError('FENCE_FAILED', 'The switch does not answer.', { peer: node })
    }
    tell(`${by.name} has fenced ${node} from outside: its clients cannot reach it`)
    network.closePort(node)
  }

  /** To be called when a node is about to be fenced because nobody reaches it: one that has lost a single link is reached by others. */
  checkUnreachable(node: string, by: string): void {
    const { network, ledger, hosts } = this.#options
    const host = hosts().find(({ name }) => name === node) as Host
    const sinceUs = this.#evidenceSinceUs(node)
    const lends = host.life.node.alive && host.daemon !== undefined && host.daemon.startedUs <= sinceUs
    const { untilUs } = host.system.lastStop
    const servesOn = host.hasLeft && host.system.running && untilUs <= sinceUs
    const lost = hosts().filter(({ name }) => name !== node && network.wasTroubled(name, node, sinceUs))
    if ((lends || servesOn) && lost.length <= 1) ledger.violate('no-evidence', `${by} fences ${node} as unreachable, which ${lends ? 'lends its memory' : 'has left in order'} and has lost ${lost.length === 0 ? 'no link' : `its link to ${lost[0]?.name} alone`}`)
  }

  /** Who was stopped meanwhile tells what it had seen before. */
  #evidenceSinceUs(node: string): number {
    const sinceUs = this.#options.nowUs() - evidenceUs
    const stops = this.#options.hosts().flatMap(({ name, daemon }) => (name !== node && daemon && daemon.process.lastStop.untilUs > sinceUs ? [daemon.process.lastStop.fromUs - evidenceUs] : []))
    return Math.min(sinceUs, ...stops)
  }
}

/** What of a daemon's configuration says how it fences. */
export const fencingConfig = ({ required }: FencingPlan, nodes: number) => ({
  fence: { command: ['close-port'], required },
  // Of two, each would fence the other where their link is cut (`docs/detection.md`).
  fenceUnreachable: nodes > 2,
})

/** Longest and shortest time that a fence takes, and how many of the first may fail. */
export const fencingRange = { takesUs: [ms, 2 * timing.deadlineUs], failures: 2 } as const
