/** What the adapter of Socket.IO commits: sockets, packets, and how many packets there are. */

/** Packets of a log after this number. */
export type LogPosition = readonly [log: string, after: number]

export interface StoredSocket {
  readonly kind: 'socket'
  readonly namespace: string
  readonly sid: string
  readonly rooms: readonly string[]
  readonly data: unknown
  /** The logs that its packets are in, in order: one for each server it was on. */
  readonly path: readonly LogPosition[]
}

/** A packet that was sent to all sockets in these rooms (to all, where there are none) but those in the others. */
export interface StoredPacket {
  readonly kind: 'packet'
  readonly namespace: string
  readonly rooms: readonly string[]
  readonly except: readonly string[]
  readonly data: readonly unknown[]
}

/** So many packets are in the log: it tells whether all of them have come over. */
export interface StoredHead {
  readonly kind: 'head'
  readonly namespace: string
  readonly log: string
  readonly number: number
}

export type StoredRecord = StoredSocket | StoredPacket | StoredHead

/** What a client is told with a packet, and tells when it comes back. */
export const offsetOf = (log: string, number: number): string => `${log}.${number.toString(36)}`

/** The session id of a packet's record. */
export const packetId = (log: string, number: number): string => `p/${offsetOf(log, number)}`

/** An offset comes from a client, and may be anything. */
export function parseOffset(offset: string): LogPosition | undefined {
  const [, log, digits] = /^([\w-]{1,64})\.([0-9a-z]{1,10})$/.exec(offset) ?? []
  return log === undefined || digits === undefined ? undefined : [log, parseInt(digits, 36)]
}

/** Was the packet for a socket in these rooms? As Socket.IO's own adapter decides. */
export const includes = ({ rooms, except }: StoredPacket, socketRooms: readonly string[]): boolean =>
  (rooms.length === 0 || socketRooms.some((room) => rooms.includes(room))) && !socketRooms.some((room) => except.includes(room))
