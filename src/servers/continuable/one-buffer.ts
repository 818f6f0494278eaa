/**
 * Lets Node.js read a connection's input into one buffer that stays, instead of a new one of up to 64 KiB for each read: that saves a
 * tenth of what a small request costs. `net` offers it (`onread`) only to whoever connects, not to servers: this is how it does it itself
 * (lib/net.js, `initSocketHandle`). Where that is found to be otherwise, nothing is changed, and input comes by `push` as ever.
 */
import { Socket } from 'node:net'

const buffer = Buffer.allocUnsafeSlow(64 << 10)
/** Views of up to this length are made once and kept. */
const keptViews = 4096
const views: (Buffer | undefined)[] = []

/** Is called on the socket with the count of bytes that have come. @returns whether to go on reading */
type Read = (this: Socket, count: number) => boolean

interface Inside {
  _handle?: { useUserBuffer?: (bytes: Buffer) => void } | null
  [symbol: symbol]: unknown
}

let known: { readonly buffer: symbol; readonly callback: symbol } | undefined | null

function symbols(): typeof known {
  if (known !== undefined) return known
  const own = Object.getOwnPropertySymbols(new Socket())
  const find = (name: string): symbol | undefined => own.find(({ description }) => description === name)
  const [forBuffer, forCallback, forGenerator] = ['kBuffer', 'kBufferCb', 'kBufferGen'].map(find)
  known = forBuffer && forCallback && forGenerator ? { buffer: forBuffer, callback: forCallback } : null
  return known
}

/** What a read has brought: true until it returns. */
export const broughtBytes = (count: number): Buffer => (count < keptViews ? (views[count] ??= buffer.subarray(0, count)) : buffer.subarray(0, count))

/** @returns whether the buffer is in use for this socket */
export function readIntoOneBuffer(socket: Socket, read: Read): boolean {
  const found = symbols()
  const inside = socket as unknown as Inside
  const handle = inside._handle
  if (!found || typeof handle?.useUserBuffer !== 'function' || inside[found.buffer] !== null || inside[found.callback] !== null) return false
  inside[found.buffer] = buffer
  inside[found.callback] = read
  handle.useUserBuffer(buffer)
  return true
}
