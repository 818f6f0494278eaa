/** Bounded names in fixed fields. */
import { BackdoorsError } from '../errors.js'

const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true })

/** @throws BackdoorsError INVALID_ARGUMENT where the name is empty, too long or holds a NUL. */
export function encodeName(what: string, name: string, maxBytes: number): Uint8Array {
  const bytes = encoder.encode(name)
  if (bytes.length === 0 || bytes.length > maxBytes || name.includes('\0')) {
    throw new BackdoorsError('INVALID_ARGUMENT', `The ${what} must be 1 to ${maxBytes} bytes of text, not ${JSON.stringify(name.slice(0, 80))}.`, { field: what })
  }
  return bytes
}

/** The text of `length` bytes at `offset`, or undefined where it does not fit or is not UTF-8. */
export function decodeText(bytes: Uint8Array, offset: number, length: number): string | undefined {
  if (length < 0 || offset + length > bytes.length) return undefined
  try {
    return decoder.decode(bytes.subarray(offset, offset + length))
  } catch {
    return undefined
  }
}

export const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
