/** Bounded names in fixed fields. */
import { BackdoorsError } from '../errors.js'

const encoder = new TextEncoder()
/** Without `ignoreBOM` a leading U+FEFF would be dropped, and a session be found under another id. */
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** The UTF-8 of `text`, or undefined where it is empty, too long, holds a NUL, or has no UTF-8 (a lone surrogate). */
export function encodeText(text: string, maxBytes: number): Uint8Array | undefined {
  const bytes = encoder.encode(text)
  return bytes.length <= maxBytes && decodeText(bytes, 0, bytes.length) === text ? bytes : undefined
}

/** @throws BackdoorsError INVALID_ARGUMENT where `encodeText` has no bytes for the name. */
export function encodeName(what: string, name: string, maxBytes: number): Uint8Array {
  const bytes = encodeText(name, maxBytes)
  if (bytes === undefined) {
    throw new BackdoorsError('INVALID_ARGUMENT', `The ${what} must be 1 to ${maxBytes} bytes of text, not ${JSON.stringify(name.slice(0, 80))}.`, { field: what })
  }
  return bytes
}

/**
 * The text of `length` bytes at `offset`, or undefined where it does not fit or `encodeText` would not have written
 * it: where it is empty, holds a NUL or is not UTF-8. So whatever is read can be written again, and texts that are
 * joined by NUL stay apart.
 */
export function decodeText(bytes: Uint8Array, offset: number, length: number): string | undefined {
  if (length <= 0 || offset + length > bytes.length) return undefined
  if (isPlain(bytes, offset, length)) return Buffer.from(bytes.buffer, bytes.byteOffset + offset, length).toString('latin1')
  try {
    const text = decoder.decode(bytes.subarray(offset, offset + length))
    return text.includes('\0') ? undefined : text
  } catch {
    return undefined
  }
}

/** ASCII without NUL, as most names are: such need no decoder, which takes longer than all else that is done with a record. */
function isPlain(bytes: Uint8Array, offset: number, length: number): boolean {
  for (let i = offset; i < offset + length; i++) if (((bytes[i] as number) - 1) >>> 0 >= 0x7f) return false
  return true
}

export const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
