/** Connections as JSON carries them between the processes of a test. */
import type { NativeTcpConnection } from '../../../native/network.js'
import type { TcpConnection } from '../connection.js'

/** A state as JSON carries it: bytes in hexadecimal, null for undefined. */
export interface WrittenConnection extends Record<string, unknown> {
  unread: string
  unacknowledged: string
  local: { address: string; port: number }
  remote: { address: string; port: number }
  options: { mssClamp: number; sack: boolean; windowScale: NativeTcpConnection['options']['windowScale'] | null; timestamp: number | null }
}

const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, 'hex'))

export function connectionOf(written: WrittenConnection): TcpConnection {
  const { local, remote, unread, unacknowledged, options } = written
  return {
    ...(written as unknown as TcpConnection),
    local: { ...local, address: bytes(local.address) }, remote: { ...remote, address: bytes(remote.address) },
    unread: bytes(unread), unacknowledged: bytes(unacknowledged),
    options: { ...options, windowScale: options.windowScale ?? undefined, timestamp: options.timestamp ?? undefined },
  }
}
