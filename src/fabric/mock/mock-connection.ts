/** A simulated queue pair: carries an operation to the node and its completion back, if they get there. */
import { BackdoorsError, type ErrorCode } from '../../errors.js'
import type { MemoryRange } from '../remote-memory.js'
import { type Conditions, drawDelayUs, drawFate, type Fate } from './conditions.js'
import type { Random } from './random.js'
import type { SimulatedNode } from './simulated-node.js'
import { quiet, type Scheduled, type Simulation } from './simulation.js'

export interface PostedOperation {
  /** Completes it with CLOSED, unless it has completed. */
  close(): void
}

/** What an operation does when it has arrived; it calls `finished` once, then or later, and stops when it is over. */
export type Execution = (finished: () => void, isOver: () => boolean) => void
/** May return `quiet` (see simulation.ts). */
export type Completion = (failure: BackdoorsError | undefined) => unknown

/** More pieces would only make the simulation slower, and tear no differently. */
const maxPiecesPerRange = 4

const reasons: Partial<Record<ErrorCode, string>> = {
  CLOSED: 'the memory has been closed',
  TIMEOUT: 'no completion came within the deadline',
  WC_RETRY_EXC_ERR: 'the peer does not answer',
}

interface Operation extends PostedOperation {
  readonly doing: string
  readonly range: MemoryRange
  readonly execute: Execution
  readonly complete: Completion
  readonly fate: Fate
  timeout: Scheduled | undefined
  over: boolean
}

export class MockConnection {
  conditions: Conditions
  readonly #simulation: Simulation
  readonly #node: SimulatedNode
  readonly #name: string
  readonly #random: Random
  readonly #underWay = new Set<Operation>()
  #brokenBy: ErrorCode | undefined

  constructor(simulation: Simulation, node: SimulatedNode, from: string, conditions: Conditions) {
    this.conditions = conditions
    this.#simulation = simulation
    this.#node = node
    this.#name = `${from}→${node.name}`
    this.#random = simulation.random(`connection ${this.#name}`)
  }

  get random(): Random {
    return this.#random
  }

  /** Posts an operation; `complete` is called exactly once, in a later event. `range` is what errors are about. */
  post(doing: string, range: MemoryRange, execute: Execution, complete: Completion): PostedOperation {
    const operation: Operation = {
      doing, range, execute, complete,
      fate: drawFate(this.#random, this.conditions),
      timeout: undefined,
      over: false,
      close: () => this.#end(operation, 'CLOSED'),
    }
    this.#underWay.add(operation)
    operation.timeout = this.#simulation.schedule(this.conditions.timeoutUs, () => this.#end(operation, 'TIMEOUT'))
    const brokenBy = this.#brokenBy
    if (brokenBy !== undefined) this.#simulation.schedule(0, () => this.#end(operation, brokenBy))
    else {
      this.#afterTravel(() => {
        this.#arrive(operation)
        return quiet
      })
    }
    return operation
  }

  /** Everything under way completes with CLOSED, in the order it was posted. */
  close(): void {
    for (const operation of [...this.#underWay]) operation.close()
  }

  failure(code: ErrorCode, doing: string, range: MemoryRange): BackdoorsError {
    const about = `${String(range.length)} bytes at offset ${String(range.offset)} of ${this.#node.name}`
    const message = `${doing} ${about}: ${reasons[code] ?? 'the operation failed'}`
    return new BackdoorsError(code, message, { peer: this.#node.name, offset: range.offset, length: range.length })
  }

  /**
   * Copies ranges of the node's memory into `targets`: all at once, or torn, in pieces that are split at 8 aligned
   * bytes and copied at instants of their own.
   */
  copy(ranges: readonly MemoryRange[], targets: readonly Uint8Array[], finished: () => void, isOver: () => boolean): void {
    const copyPiece = (target: Uint8Array, from: number, piece: MemoryRange): void => {
      if (!isOver()) target.set(this.#node.bytes.subarray(piece.offset, piece.offset + piece.length), piece.offset - from)
    }
    const spreadUs = this.#random.chance(this.conditions.tearProbability) ? this.conditions.tearSpreadUs : 0
    ranges.forEach((range, index) => {
      const target = targets[index] as Uint8Array
      for (const piece of spreadUs > 0 ? this.#split(range) : [range]) {
        const afterUs = spreadUs > 0 ? this.#random.integer(0, spreadUs) : 0
        if (afterUs === 0) copyPiece(target, range.offset, piece)
        else {
          this.#simulation.schedule(afterUs, () => {
            copyPiece(target, range.offset, piece)
            return quiet
          })
        }
      }
    })
    if (spreadUs > 0) this.#simulation.schedule(spreadUs, finished)
    else finished()
  }

  #split({ offset, length }: MemoryRange): MemoryRange[] {
    const cuts = new Set([offset, offset + length])
    for (let piece = 1; piece < maxPiecesPerRange; piece += 1) {
      const cut = Math.ceil(this.#random.integer(offset, offset + length) / 8) * 8
      if (cut < offset + length) cuts.add(cut)
    }
    const ends = [...cuts].sort((left, right) => left - right)
    return ends.slice(1).map((end, index) => ({ offset: ends[index] as number, length: end - (ends[index] as number) }))
  }

  #afterTravel(action: () => unknown): void {
    this.#simulation.schedule(drawDelayUs(this.#random, this.conditions), action)
  }

  #arrive(operation: Operation): void {
    if (operation.over) return
    if (!this.#node.alive || this.conditions.cut) return this.#giveUpLater(operation)
    const { fate } = operation
    const { deaths } = this.#node
    // A node that died since the operation arrived neither goes on with it nor answers, even if it is back.
    const isOver = (): boolean => operation.over || this.#node.deaths > deaths
    if (fate.kind === 'done') return operation.execute(() => (isOver() ? this.#giveUpLater(operation) : this.#answer(operation)), isOver)
    // An operation that fails may have been done: only its answer was lost.
    if (fate.executed) operation.execute(() => undefined, isOver)
    if (fate.kind === 'failed') this.#afterTravel(() => this.#end(operation, fate.status))
  }

  #answer(operation: Operation): void {
    if (this.conditions.cut) return this.#giveUpLater(operation)
    this.#afterTravel(() => this.#end(operation, undefined))
  }

  #giveUpLater(operation: Operation): void {
    this.#simulation.schedule(this.conditions.retryUs, () => this.#end(operation, 'WC_RETRY_EXC_ERR'))
  }

  #end(operation: Operation, code: ErrorCode | undefined): unknown {
    if (operation.over) return quiet
    operation.over = true
    operation.timeout?.cancel()
    this.#underWay.delete(operation)
    // Samples that succeed are too many to tell of; what they show is told by the watch.
    if (code !== undefined || operation.doing !== 'sample') {
      const { offset, length } = operation.range
      this.#simulation.record(`${this.#name} ${operation.doing} ${String(offset)}+${String(length)} ${code ?? 'ok'}`)
    }
    const outcome = operation.complete(code === undefined ? undefined : this.failure(code, operation.doing, operation.range))
    if (code === undefined || code === 'CLOSED' || !this.conditions.breaksOnFailure) return outcome
    // What is flushed with it may well be waited for.
    this.#break(code)
    return undefined
  }

  /** The queue pair goes into its error state: what is under way is flushed, and told the cause. */
  #break(code: ErrorCode): void {
    if (this.#brokenBy !== undefined) return
    this.#brokenBy = code
    for (const operation of [...this.#underWay]) this.#end(operation, code)
  }
}
