/** What the two hosts of a test say to each other: one JSON object per line and way, over TCP, in the clear. */
import type { Socket } from 'node:net'
import { createInterface } from 'node:readline'
import type { EndpointPair, MemoryWindow } from '../src/fabric/lending.js'

export const defaultPort = 18_600
/** In bytes. The second page takes compare-and-swap. */
export const peerMemoryLength = 4 * 1024 * 1024

export type PeerRequest =
  /** Answers these endpoints' queue pairs, on behalf of `watcher`. */
  | { readonly op: 'accept'; readonly watcher: string; readonly endpoints: EndpointPair }
  /** Destroys the queue pairs that answer `watcher`. */
  | { readonly op: 'release'; readonly watcher: string }
  /** Fills a range of the lent memory with a byte. */
  | { readonly op: 'fill'; readonly offset: number; readonly length: number; readonly value: number }
  /** The 8 bytes at an offset. */
  | { readonly op: 'word'; readonly offset: number }
  /** From now on adds 1 to the word at an offset, every so often; 0 stops it. */
  | { readonly op: 'beat'; readonly offset: number; readonly intervalMs: number }

export interface PeerAnswer {
  readonly endpoints?: EndpointPair
  readonly windows?: readonly MemoryWindow[]
  readonly word?: bigint
  readonly error?: string
}

/** JSON has no integers of 64 bits. */
export const encode = (message: unknown): string => JSON.stringify(message, (_key, value: unknown) => (typeof value === 'bigint' ? `${value}n` : value))
export const decode = (line: string): unknown => JSON.parse(line, (_key, value: unknown) => (typeof value === 'string' && /^\d+n$/.test(value) ? BigInt(value.slice(0, -1)) : value))

export function send(socket: Socket, message: PeerRequest | PeerAnswer): void {
  socket.write(`${encode(message)}\n`)
}

export function onMessage<T>(socket: Socket, handle: (message: T) => void): void {
  createInterface({ input: socket }).on('line', (line) => {
    handle(decode(line) as T)
  })
}
