/**
 * What the JSON of the relay's protocol says. It is checked by hand: the command line loads this while somebody waits for the last
 * words of a machine, and the library that checks messages elsewhere is a hundred files.
 */
import { BackdoorsError, errorCodes, type ErrorCode } from '../../errors.js'

export interface RelayHello {
  /** Which memory. */
  readonly memory: string
  /** Does the client want a window? */
  readonly window: boolean
}

export interface RelayWelcome {
  readonly peer: string
  readonly length: number
  readonly map: readonly { readonly physical: number; readonly length: number; readonly offset: number }[]
  readonly notes: readonly number[]
  /**
   * A path that the window can be opened by, for as long as the connection stands, and what it begins with (hexadecimal digits), as
   * a path may lead elsewhere for another process; null where none was asked for, or could be had.
   */
  readonly window: { readonly path: string; readonly beginning: string } | null
}

const [mostNameLength, mostSpans, mostNotes] = [63, 64, 16]

type Fields = Readonly<Record<string, unknown>>

const isFields = (value: unknown): value is Fields => typeof value === 'object' && value !== null && !Array.isArray(value)
const hasOnly = (fields: Fields, names: readonly string[]): boolean => Object.keys(fields).every((name) => names.includes(name))
const isName = (value: unknown): value is string => typeof value === 'string' && value.length >= 1 && value.length <= mostNameLength
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0
const isList = <T>(value: unknown, most: number, isItem: (item: unknown) => item is T): value is T[] => Array.isArray(value) && value.length <= most && value.every(isItem)
const isSpan = (value: unknown): value is RelayWelcome['map'][number] =>
  isFields(value) && hasOnly(value, ['physical', 'length', 'offset']) && isCount(value['physical']) && isCount(value['length']) && isCount(value['offset'])
const isWindow = (value: unknown): value is NonNullable<RelayWelcome['window']> =>
  isFields(value) && hasOnly(value, ['path', 'beginning']) && typeof value['path'] === 'string' && value['path'] !== '' && typeof value['beginning'] === 'string' && /^[0-9a-f]{32}$/.test(value['beginning'])

/** @returns undefined where it is none */
export function helloOf(value: unknown): RelayHello | undefined {
  if (!isFields(value) || !hasOnly(value, ['memory', 'window'])) return undefined
  const { memory, window = false } = value
  return isName(memory) && typeof window === 'boolean' ? { memory, window } : undefined
}

/** @returns undefined where it is neither a welcome nor an error */
export function answerOf(value: unknown): RelayWelcome | BackdoorsError | undefined {
  if (!isFields(value)) return undefined
  if ('error' in value) return hasOnly(value, ['error']) ? errorOf(value['error']) : undefined
  const { peer, length, map, notes, window } = value
  const isWelcome = hasOnly(value, ['peer', 'length', 'map', 'notes', 'window']) && isName(peer) && isCount(length) && isList(map, mostSpans, isSpan) && isList(notes, mostNotes, isCount)
  return isWelcome && (window === null || isWindow(window)) ? { peer, length, map, notes, window } : undefined
}

/** The error that a relay describes; undefined where it describes none. */
export function errorOf(value: unknown): BackdoorsError | undefined {
  if (!isFields(value) || typeof value['code'] !== 'string' || typeof value['message'] !== 'string') return undefined
  const { code, message } = value
  return new BackdoorsError((errorCodes as readonly string[]).includes(code) ? (code as ErrorCode) : 'PROTOCOL_ERROR', message)
}
