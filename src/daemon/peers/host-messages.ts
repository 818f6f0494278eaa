/** What a lender of whole machines and its watchers ask each other, over the control connection. */
import { z } from 'zod'
import { BackdoorsError } from '../../errors.js'
import { endpointPair, maxWindows, memoryWindow } from '../../fabric/enrollment/messages.js'

/** Lends a host's RAM to the queue pairs given, and tells how it lies. */
export const lendHostMethod = 'host.lend'
/** Asks what a host's region is by now. */
export const hostRegionMethod = 'host.region'

const hostName = z.string().min(1).max(63)
const byteCount = z.int().min(0)
const span = z.strictObject({ physical: byteCount, length: byteCount.min(1), offset: byteCount })

export const lendHostRequest = z.strictObject({ host: hostName, endpoints: endpointPair })
export const hostRegionRequest = z.strictObject({ host: hostName })

/**
 * `region`: incarnation of the region whose control page is lent for compare-and-swap; null where none has been found. `version`
 * is another whenever the host was started anew, or its region or a page of it is another: what was borrowed before is then stale.
 */
const hostState = { region: z.string().regex(/^[0-9a-f]{1,16}$/).nullable(), notes: z.array(byteCount).max(16), version: z.string().max(64) }
export const hostRegionAnswer = z.strictObject(hostState)
export const lendHostAnswer = z.strictObject({
  ...hostState,
  endpoints: endpointPair,
  windows: z.array(memoryWindow).min(1).max(maxWindows),
  map: z.array(span).min(1).max(64),
})

export type HostState = z.output<typeof hostRegionAnswer>
export type HostLoan = z.output<typeof lendHostAnswer>

/** @throws BackdoorsError PROTOCOL_ERROR with what is wrong */
export function parseMessage<S extends z.ZodType>(schema: S, body: unknown, peer: string): z.output<S> {
  const parsed = schema.safeParse(body)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  throw new BackdoorsError('PROTOCOL_ERROR', `A message of ${peer} about a host: ${issue?.path.join('.') ?? ''} ${issue?.message ?? 'is invalid'}`, { peer })
}
