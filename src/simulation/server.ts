/** A simulated server process: it takes a box, beats, answers its clients after each commit, and takes over what its daemon offers. */
import { isBackdoorsError } from '../errors.js'
import { quiet, type Simulation } from '../fabric/mock/simulation.js'
import { BoxOwner } from '../region/box-owner.js'
import { boxOffset } from '../region/layout.js'
import type { Region } from '../region/region.js'
import type { SensorHandle } from '../region/sensor-handle.js'
import type { HeldStore } from '../region/session-writer.js'
import type { Safeguards } from '../safeguards.js'
import type { NotTaken, OfferedSession } from '../servers/local-protocol.js'
import { takeOver } from '../servers/take-over.js'
import { Beats } from './beats.js'
import { interruptCommit } from './interrupted-commit.js'
import type { Holder, Ledger } from './ledger.js'
import { payloadOf } from './payload.js'
import { Process, ProcessDied } from './process.js'
import type { RegionLife } from './region-life.js'
import { timing } from './timing.js'

export const storeName = 'carts'

/** `gone`: this process will not answer any more. */
export type Answer = { readonly kind: 'committed'; readonly value: number } | { readonly kind: 'unknown' | 'damaged' | 'gone' }

export interface ServerOptions {
  readonly simulation: Simulation
  readonly ledger: Ledger
  readonly name: string
  readonly life: RegionLife
  readonly safeguards: Safeguards
  /** It has noticed that it is fenced, and ends. */
  readonly onFenced: () => void
  /** Called in the midst of each commit, between its two looks at the fences. */
  readonly midCommit: () => void
}

/** Where the newest state of a session stands: after each commit that is another place, and another object. */
export interface HeldState {
  readonly current: object | undefined
}

/** A commit that is to stop in the middle: how much of it is written by then, and what happens there. */
export interface Interruption {
  readonly share: number
  readonly then: () => void
}

export class Server implements Holder {
  readonly name: string
  readonly life: RegionLife
  readonly process: Process
  readonly owner: BoxOwner
  readonly beats: Beats
  interruption: Interruption | undefined
  isMidCommit = false
  readonly #options: ServerOptions
  readonly #region: Region
  readonly #store: HeldStore
  readonly #sensor: SensorHandle

  /** @throws BackdoorsError FENCED, BOXES_EXHAUSTED, BOX_IN_USE: it cannot start (yet) */
  constructor(options: ServerOptions) {
    const { simulation, name, life, safeguards } = options
    this.#options = options
    this.name = `${life.host}/${name}`
    this.life = life
    this.process = new Process(simulation, this.name)
    this.#region = life.open()
    const nowMs = (): number => {
      if (!this.process.isLookedInto) options.midCommit()
      return this.process.nowMs()
    }
    this.owner = BoxOwner.take(this.#region, { name, nowMs, safeguards })
    this.process.onEnd(() => life.release(this.#region))
    this.#store = this.owner.sessions.store(storeName)
    this.#sensor = this.owner.sensor({ name: 'event-loop', kind: 'progress', deadlineUs: timing.deadlineUs })
    this.beats = new Beats(simulation.now(), timing.deadlineUs)
    life.addOwner(this)
    this.process.every(timing.beatEveryUs, () => this.#beat())
  }

  get box(): number {
    return this.owner.box
  }

  get generation(): number {
    return this.owner.generation
  }

  get alive(): boolean {
    return this.process.alive
  }

  /** One whose bytes have rotted it cannot serve. */
  holds(id: string): boolean {
    return this.#store.sessions.has(id) && this.process.lookInto(() => this.#read(id)) !== 'damaged'
  }

  get running(): boolean {
    return this.process.running
  }

  /** By their ids. */
  get held(): ReadonlyMap<string, HeldState> {
    return this.#store.sessions
  }

  /** The value that it serves; undefined where it has none, or a damaged one. For those who judge: it leaves no trace. */
  valueOf(id: string): number | undefined {
    const payload = this.process.lookInto(() => this.#read(id))
    return payload instanceof Uint8Array ? this.#options.ledger.served(id, payload, this) : undefined
  }

  /** The first commit of a session, before anything goes wrong. */
  begin(id: string): void {
    this.#write(id, 1)
    this.#options.ledger.begin(id, this.life, this.box)
  }

  /** A client asks that the session become `value`, which is one more than it was told. */
  ask(id: string, value: number, answer: (answer: Answer) => void): unknown {
    const payload = this.#read(id)
    if (payload === undefined) return this.#answer(answer, { kind: 'unknown' })
    if (payload === 'damaged') return this.#answer(answer, { kind: 'damaged' })
    const here = this.#options.ledger.served(id, payload, this)
    if (here === undefined) return this.#answer(answer, { kind: 'damaged' })
    // It was committed by a request whose answer was lost.
    if (here >= value && !this.owner.fenced) return this.#acknowledge(id, here, answer)
    this.#options.ledger.trying(id, value)
    return this.#unlessGone(() => (this.interruption ? this.#commitInParts(this.interruption, id, value, answer) : this.#commit(id, value, answer)))
  }

  /** @returns the sessions that it did not take, undefined where it died */
  offered(sessions: readonly OfferedSession[]): NotTaken | undefined {
    const notTaken: NotTaken = { refused: [], kept: [] }
    let died = true
    this.#unlessGone(() => {
      for (const session of sessions) {
        const taking = takeOver(this.owner, session)
        if (taking === 'taken') this.#tookOver(session.id)
        else notTaken[taking].push(session)
      }
      died = false
    })
    return died ? undefined : notTaken
  }

  #tookOver(id: string): void {
    const { ledger } = this.#options
    ledger.checkHolders(id)
    const value = this.valueOf(id)
    if (value !== undefined) ledger.movedTo(id, value, this)
  }

  #commit(id: string, value: number, answer: (answer: Answer) => void): unknown {
    this.#write(id, value)
    return this.#acknowledge(id, value, answer)
  }

  #commitInParts({ share, then }: Interruption, id: string, value: number, answer: (answer: Answer) => void): unknown {
    this.interruption = undefined
    const { plan } = this.life.header
    const start = boxOffset(plan, this.box)
    const box = this.life.bytes.subarray(start, start + plan.boxBytes)
    const finish = interruptCommit(box, plan.heapInBox, share, () => this.#write(id, value))
    this.isMidCommit = true
    then()
    // The process may be dead by now, and then nothing of this is done.
    this.process.whenRunning(() => {
      finish()
      this.isMidCommit = false
      return this.#unlessGone(() => {
        this.owner.checkFence()
        return this.#acknowledge(id, value, answer)
      })
    })
    return undefined
  }

  #acknowledge(id: string, value: number, answer: (answer: Answer) => void): unknown {
    this.#options.ledger.acknowledged(id, value, this)
    return this.#answer(answer, { kind: 'committed', value })
  }

  #answer(answer: (answer: Answer) => void, what: Answer): unknown {
    answer(what)
    return quiet
  }

  #write(id: string, value: number): void {
    this.owner.sessions.commit(this.#store, id, payloadOf(id, value), { ttlMs: 0, schemaVersion: 1 })
  }

  #read(id: string): Uint8Array | 'damaged' | undefined {
    try {
      return this.owner.sessions.get(this.#store, id)?.payload
    } catch (error) {
      if (isBackdoorsError(error, 'RECORD_CORRUPT')) return 'damaged'
      throw error
    }
  }

  #beat(): unknown {
    if (!this.#sensor.beat()) this.#options.onFenced()
    else this.beats.beat(this.#options.simulation.now())
    return quiet
  }

  /** Runs what may find that this server is fenced, or die of a commit. */
  #unlessGone(run: () => unknown): unknown {
    try {
      return run()
    } catch (error) {
      if (isBackdoorsError(error, 'FENCED')) this.#options.onFenced()
      else if (!(error instanceof ProcessDied)) throw error
      return quiet
    }
  }
}
