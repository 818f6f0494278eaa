/**
 * The three safeguards that keep a recovery honest. Each can be switched off, for one purpose only: to show
 * that the demo and the simulation notice (`--canary`). A check that nobody has seen fail proves nothing.
 */
export interface Safeguards {
  /** A fenced owner stops: commits and beats check the fence words. */
  readonly fence: boolean
  /** Bytes that fail their CRC are no session. */
  readonly crc: boolean
  /** Only the holder of the claim word adopts. */
  readonly claim: boolean
}

export const allSafeguards: Safeguards = { fence: true, crc: true, claim: true }
export const canaries = ['fence', 'crc', 'claim'] as const
export type Canary = (typeof canaries)[number]

/** All safeguards but one. */
export const safeguardsWithout = (canary: Canary | undefined): Safeguards =>
  canary === undefined ? allSafeguards : { ...allSafeguards, [canary]: false }
