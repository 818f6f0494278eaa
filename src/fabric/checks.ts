/** What is refused before it is posted: on a NIC a bad access would end the queue pair. */
import { BackdoorsError } from '../errors.js'
import type { MemoryWindow } from './lending.js'
import type { MemoryRange, WatchPlan } from './remote-memory.js'

/** The part of a window that matters where there is no NIC. */
export type AccessWindow = Pick<MemoryWindow, 'offset' | 'length' | 'access'>

export interface CheckedMemory {
  readonly peer: string
  readonly length: number
  readonly windows: readonly AccessWindow[]
}

const isWhole = (value: number): boolean => Number.isSafeInteger(value) && value >= 0

function rangeText({ offset, length }: MemoryRange): string {
  return `${String(length)} bytes at offset ${String(offset)}`
}

/** Does the memory have these bytes? Written as a difference, for the sum of two large numbers may round back into the memory. */
export const isInside = (memory: Pick<CheckedMemory, 'length'>, offset: number, length: number): boolean =>
  isWhole(offset) && isWhole(length) && offset <= memory.length && length <= memory.length - offset

/** @throws BackdoorsError OUT_OF_RANGE, INVALID_ARGUMENT for an access of no bytes. */
export function checkRange(memory: CheckedMemory, doing: string, range: MemoryRange): void {
  const { offset, length } = range
  const details = { peer: memory.peer, offset, length }
  if (!isInside(memory, offset, length)) {
    const message = `${doing} ${rangeText(range)} of ${memory.peer}: its memory has ${String(memory.length)} bytes`
    throw new BackdoorsError('OUT_OF_RANGE', message, details)
  }
  if (length === 0) {
    throw new BackdoorsError('INVALID_ARGUMENT', `${doing} ${rangeText(range)} of ${memory.peer}: give a length of at least 1`, details)
  }
}

export function checkAligned(memory: CheckedMemory, doing: string, range: MemoryRange): void {
  if (range.offset % range.length === 0) return
  const message = `${doing} ${rangeText(range)} of ${memory.peer}: the offset must be a multiple of ${String(range.length)}`
  throw new BackdoorsError('UNALIGNED', message, { peer: memory.peer, offset: range.offset, length: range.length })
}

/** @throws BackdoorsError READ_ONLY where no window with one of these kinds of access holds the whole range. */
export function checkAccess(
  memory: CheckedMemory,
  doing: string,
  range: MemoryRange,
  allowed: readonly AccessWindow['access'][],
): void {
  const end = range.offset + range.length
  const isInside = (window: AccessWindow): boolean => range.offset >= window.offset && end <= window.offset + window.length
  if (memory.windows.some((window) => allowed.includes(window.access) && isInside(window))) return
  const message = `${doing} ${rangeText(range)} of ${memory.peer}: it is lent read-only there`
  throw new BackdoorsError('READ_ONLY', message, { peer: memory.peer, offset: range.offset, length: range.length })
}

/** @throws BackdoorsError INVALID_ARGUMENT for a value that does not fit into 8 bytes. */
export function checkWord(memory: CheckedMemory, field: string, value: bigint): void {
  if (value === BigInt.asUintN(64, value)) return
  const message = `compare-and-swap at ${memory.peer}: ${field} is ${String(value)}, which is no unsigned number of 64 bits`
  throw new BackdoorsError('INVALID_ARGUMENT', message, { peer: memory.peer, field })
}

function checkDuration(memory: CheckedMemory, field: string, value: number): void {
  if (Number.isFinite(value) && value > 0) return
  const message = `watch ${memory.peer}: ${field} is ${String(value)}; give microseconds greater than 0`
  throw new BackdoorsError('INVALID_ARGUMENT', message, { peer: memory.peer, field })
}

/** @throws BackdoorsError OUT_OF_RANGE, UNALIGNED, INVALID_ARGUMENT */
export function checkPlan(memory: CheckedMemory, plan: WatchPlan): void {
  checkDuration(memory, 'intervalUs', plan.intervalUs)
  checkDuration(memory, 'unreachableAfterUs', plan.unreachableAfterUs)
  plan.cells.forEach((cell, index) => {
    checkDuration(memory, `cells[${String(index)}].deadlineUs`, cell.deadlineUs)
    for (const offset of [cell.counterOffset, cell.pendingOffset]) {
      if (offset === undefined) continue
      checkRange(memory, 'watch', { offset, length: 4 })
      checkAligned(memory, 'watch', { offset, length: 4 })
    }
  })
}
