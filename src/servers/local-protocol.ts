/**
 * What a server and the daemon of its machine say to each other, as JSON lines on a unix socket beside the
 * region. Nothing of it is needed to beat, to commit or to be recovered: it hands adopted sessions over, and
 * answers the command line.
 */
import type { Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { z } from 'zod'
import { BackdoorsError } from '../errors.js'
import { resetReasons } from '../recovery/tcp/connection.js'

export const socketPathOf = (regionPath: string): string => `${regionPath}.sock`

/** Where servers get the connections of failed ones: descriptors, and what is to be known of each. */
export const connectionsSocketPathOf = (regionPath: string): string => `${regionPath}.connections.sock`

/** Longest line that either side accepts, in bytes. */
export const maxLineBytes = 8 << 20

const count = z.number().int().nonnegative()
const port = z.number().int().min(1).max(65535)
const namedSession = z.object({ store: z.string(), id: z.string() })
const offeredSession = namedSession.extend({ offset: count, length: count })

export const toDaemon = z.discriminatedUnion('type', [
  /** A server has taken this box, serves these stores, and continues connections to these local ports. Said again when one is added. */
  z.object({ type: z.literal('attached'), box: count, generation: count, name: z.string(), stores: z.array(z.string()), continues: z.array(port).max(64).default([]) }),
  /**
   * The sessions of an offer are in the server's own box now, but for those `refused`, for which it has no room or which it may not take,
   * and but for those in whose place it has `kept` another of the same id, its own: nobody is offered these again. A server of an
   * earlier release names both as refused.
   */
  z.object({ type: z.literal('taken'), offer: count, refused: z.array(namedSession), kept: z.array(namedSession).default([]) }),
  /** What became of connections that it was given. */
  z.object({ type: z.literal('continued'), outcomes: z.array(z.object({ name: z.string(), reset: z.enum(resetReasons).optional() })) }),
  z.object({ type: z.literal('request'), id: count, method: z.string(), params: z.record(z.string(), z.unknown()) }),
])

export const fromDaemon = z.discriminatedUnion('type', [
  /** Sessions that this server should take over: records in the daemon's box, as offsets into the region. */
  z.object({ type: z.literal('offered'), offer: count, from: z.string(), sessions: z.array(offeredSession) }),
  z.object({ type: z.literal('response'), id: count, result: z.unknown().optional(), error: z.object({ code: z.string(), message: z.string() }).optional() }),
])

/** What stands beside descriptors of connections, in their order: see `RestoredConnection`. */
export const restoredMessage = z.object({
  connections: z.array(z.object({ name: z.string().max(200), life: z.string().regex(/^[1-9a-f][0-9a-f]{0,15}$/), port, read: count, written: count, unread: count, unacknowledged: count })).min(1).max(64),
})

/** What a server says first on the socket that connections come by. */
export const connectionsHello = z.object({ box: count, generation: count })

export type ToDaemon = z.infer<typeof toDaemon>
export type FromDaemon = z.infer<typeof fromDaemon>
/** What a server says of the sessions of an offer that it did not take. */
export type NotTaken = Pick<Extract<ToDaemon, { type: 'taken' }>, 'refused' | 'kept'>
export type OfferedSession = z.infer<typeof offeredSession>

/** Calls `onMessage` for each valid line; a line that is not valid ends the connection with PROTOCOL_ERROR. */
export function readMessages<T>(socket: Socket, schema: z.ZodType<T>, onMessage: (message: T) => void, onError: (error: BackdoorsError) => void): void {
  let lineBytes = 0
  socket.on('data', (chunk: Buffer) => {
    const end = chunk.lastIndexOf(10)
    lineBytes = end < 0 ? lineBytes + chunk.length : chunk.length - end
    if (lineBytes > maxLineBytes) socket.destroy(new BackdoorsError('MESSAGE_TOO_LARGE', `A line of more than ${maxLineBytes} bytes came in on the local socket.`))
  })
  const lines = createInterface({ input: socket, crlfDelay: Infinity })
  // The interface repeats the socket's errors, which the socket's own listeners deal with.
  lines.on('error', () => undefined)
  lines.on('line', (line) => {
    let parsed: z.ZodSafeParseResult<T> | undefined
    try {
      parsed = schema.safeParse(JSON.parse(line))
    } catch (cause) {
      onError(new BackdoorsError('PROTOCOL_ERROR', 'A line on the local socket is not JSON.', { cause }))
    }
    if (parsed?.success) onMessage(parsed.data)
    else {
      if (parsed) onError(new BackdoorsError('PROTOCOL_ERROR', `A message on the local socket is not valid: ${z.prettifyError(parsed.error)}`))
      socket.destroy()
    }
  })
}

export const writeMessage = (socket: Socket, message: ToDaemon | FromDaemon): boolean => socket.write(`${JSON.stringify(message)}\n`)
