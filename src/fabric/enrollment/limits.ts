/** Bounds of enrollment, all with defaults. Times are in milliseconds. */
export interface ConnectionLimits {
  /** Between two pings. */
  readonly pingIntervalMs: number
  /** A peer that was not heard for so long is silent. */
  readonly silentAfterMs: number
  /** How long a `bye` may take to be taken before the connection is cut. */
  readonly closeTimeoutMs: number
  /** An answer that does not come within this is not waited for. */
  readonly requestTimeoutMs: number
  /** Requests under way in each direction. */
  readonly maxRequests: number
}

export interface ServerLimits extends ConnectionLimits {
  /** From accepting a connection to `welcome`, all together. */
  readonly handshakeTimeoutMs: number
  /** Connections in their handshake at once. */
  readonly maxHandshakes: number
  /** Lines logged about refused connections in one second; the others are counted. */
  readonly refusalLinesPerSecond: number
}

export const defaultConnectionLimits: ConnectionLimits = {
  pingIntervalMs: 1000,
  silentAfterMs: 5000,
  closeTimeoutMs: 1000,
  requestTimeoutMs: 5000,
  maxRequests: 32,
}

export const defaultServerLimits: ServerLimits = {
  ...defaultConnectionLimits,
  handshakeTimeoutMs: 5000,
  maxHandshakes: 64,
  refusalLinesPerSecond: 20,
}

/** From the first packet to `welcome`, as the client sees it. */
export const defaultEnrollTimeoutMs = 5000
