/** What a view of a kernel's memory is to the command line: something to print, and what of it is missing. */
import type { BackdoorsError } from '../../errors.js'

export interface ViewOptions {
  /** Of the process that the view is about. */
  readonly pid?: number
  readonly threads?: boolean
  readonly stacks?: boolean
  readonly processes?: boolean
}

export interface Answer {
  /** For people, as the tool of the same purpose prints it. What strangers wrote is made printable. */
  readonly lines: () => readonly string[]
  /** For machines: addresses are `bigint`, counts are not. */
  readonly fields: () => Readonly<Record<string, unknown>>
  readonly faults: readonly BackdoorsError[]
  /** Nothing at all could be read. */
  readonly isEmpty: boolean
}

/** A count as JSON has it: a number as long as that is exact, and else its decimal digits. */
export function count(value: bigint): number | string
export function count(value: bigint | undefined): number | string | undefined
export function count(value: bigint | undefined): number | string | undefined {
  if (value === undefined) return undefined
  return value <= BigInt(Number.MAX_SAFE_INTEGER) && value >= BigInt(Number.MIN_SAFE_INTEGER) ? Number(value) : value.toString()
}

/** Nanoseconds as seconds, to two digits. */
export const secondsOf = (ns: bigint): string => (Number(ns / 10_000_000n) / 100).toFixed(2)
