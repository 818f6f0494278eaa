/**
 * The messages of the control connection: their types, and the validators that everything from the wire goes
 * through. `docs/protocol.md` describes the same, byte by byte.
 */
import { z } from 'zod'
import { BackdoorsError } from '../../errors.js'
import { isNodeName } from '../../keys/node-name.js'
import type { EndpointPair, MemoryWindow } from '../lending.js'

export const protocolVersion = 1
/** Most windows that one node lends. */
export const maxWindows = 64
/** Longest explanation in a message, in UTF-16 units. */
export const maxTextLength = 1000

const u16 = z.int().min(0).max(0xffff)
const u24 = z.int().min(0).max(0xff_ffff)
const u32 = z.int().min(0).max(0xffff_ffff)
const byteCount = z.int().min(1)
const name = z.string().max(63).refine(isNodeName, 'is no node name')
const text = z.string().max(maxTextLength)

/** 64 bits as `0x` and 1 to 16 lower-case hexadecimal digits: JSON's numbers hold 53 bits only. */
const hexU64 = z.codec(z.string().regex(/^0x[0-9a-f]{1,16}$/), z.bigint().min(0n).max(0xffff_ffff_ffff_ffffn), {
  decode: (digits) => BigInt(digits),
  encode: (value) => `0x${value.toString(16)}`,
})

const pathMtus: readonly number[] = [256, 512, 1024, 2048, 4096]
const queuePairEndpoint = z.strictObject({
  qpn: u24,
  psn: u24,
  gid: z.string().regex(/^[0-9a-f]{32}$/),
  lid: u16,
  mtu: z.int().refine((bytes) => pathMtus.includes(bytes), 'is no path MTU'),
  maxRdAtomic: z.int().min(1).max(255),
  maxDestRdAtomic: z.int().min(1).max(255),
})
/** Of what is exchanged after the welcome, too: a host's memory is lent by a request. */
export const endpointPair = z.strictObject({ sampling: queuePairEndpoint, recovery: queuePairEndpoint })

export const memoryWindow = z
  .strictObject({
    offset: z.int().min(0),
    length: byteCount,
    address: hexU64,
    rkey: u32,
    access: z.enum(['read', 'atomic', 'write']),
  })
  .refine((window) => window.address + BigInt(window.length) <= 1n << 64n, 'ends beyond the address space')

const helloBase = { type: z.literal('hello'), protocolVersion: z.literal(protocolVersion), cluster: name, node: name }
const hello = z.discriminatedUnion('fabric', [
  z.strictObject({ ...helloBase, fabric: z.literal('verbs'), endpoints: endpointPair }),
  z.strictObject({ ...helloBase, fabric: z.literal('shm') }),
])

const welcomeBase = {
  type: z.literal('welcome'),
  node: name,
  incarnation: hexU64,
  layoutVersion: z.int().min(1).max(0xffff_ffff),
  regionLength: byteCount,
  windows: z.array(memoryWindow).min(1).max(maxWindows).readonly(),
}
const absolutePath = z.string().max(4096).regex(/^\/[^\0]*$/)
const welcome = z
  .discriminatedUnion('fabric', [
    z.strictObject({ ...welcomeBase, fabric: z.literal('verbs'), endpoints: endpointPair }),
    z.strictObject({ ...welcomeBase, fabric: z.literal('shm'), path: absolutePath }),
  ])
  .refine(({ regionLength, windows }) => windows.every((window) => window.offset + window.length <= regionLength), {
    message: 'a window ends beyond the region',
    path: ['windows'],
  })

/** Why a server refuses a peer that it knows. Others may be added: a client shows what it does not know. */
export const refusals = ['protocol-version', 'cluster', 'node', 'fabric', 'lend'] as const
export type Refusal = (typeof refusals)[number]
const refused = z.strictObject({ type: z.literal('refused'), code: z.string().regex(/^[a-z-]{1,40}$/), message: text })

const method = z.string().regex(/^[a-z][a-zA-Z0-9.-]{0,63}$/)
const errorCode = z.string().regex(/^[A-Z][A-Z0-9_]{0,63}$/)
const response = z.discriminatedUnion('ok', [
  z.strictObject({ type: z.literal('response'), id: u32, ok: z.literal(true), body: z.unknown() }),
  z.strictObject({ type: z.literal('response'), id: u32, ok: z.literal(false), code: errorCode, message: text }),
])

/** What a server takes first. The version is judged by itself, as another version may have other fields. */
export const helloSchema = hello
export const helloVersionSchema = z.looseObject({ type: z.literal('hello'), protocolVersion: u32 })
/** What a client takes as the answer. */
export const answerSchema = z.discriminatedUnion('type', [welcome, refused])
/** What both take from then on. */
export const controlSchema = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('ping'), id: u32 }),
  z.strictObject({ type: z.literal('pong'), id: u32 }),
  z.strictObject({ type: z.literal('bye'), reason: text }),
  z.strictObject({ type: z.literal('request'), id: u32, method, body: z.unknown() }),
  response,
])

export type HelloMessage = z.output<typeof hello>
export type AnswerMessage = z.output<typeof answerSchema>
export type ControlMessage = z.output<typeof controlSchema>

/** What a watcher brings to be lent memory; name, cluster and version are added from its credentials. */
export type Hello =
  | { readonly fabric: 'verbs'; readonly endpoints: EndpointPair }
  /** Both nodes are processes of one machine and of one user. */
  | { readonly fabric: 'shm' }

interface Loan {
  /** Of the region that is lent: new with every region; 64 bits. */
  readonly incarnation: bigint
  /** Of the region's layout (`docs/layout.md`). */
  readonly layoutVersion: number
  /** In bytes. */
  readonly regionLength: number
  /** Every one lies within the region. Over shared memory their addresses and rkeys mean nothing. */
  readonly windows: readonly MemoryWindow[]
}

/** What a node lends to one watcher. */
export type Welcome =
  | (Loan & { readonly fabric: 'verbs'; readonly endpoints: EndpointPair })
  /** `path` is that of the region's file. */
  | (Loan & { readonly fabric: 'shm'; readonly path: string })

/** A welcome as the watcher gets it, with the node that gave it. */
export type ReceivedWelcome = Welcome & { readonly node: string }

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * Reads a frame's text as a message of `schema`.
 * @throws BackdoorsError PROTOCOL_ERROR, with the field that is wrong.
 */
export function readMessage<S extends z.ZodType>(schema: S, frame: Uint8Array): z.output<S> {
  let value: unknown
  try {
    value = JSON.parse(utf8.decode(frame))
  } catch (cause) {
    throw new BackdoorsError('PROTOCOL_ERROR', 'the peer sent a frame that is not JSON in UTF-8', { length: frame.length, cause })
  }
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  const field = (issue?.path ?? []).map(String).join('.').slice(0, 100)
  throw new BackdoorsError('PROTOCOL_ERROR', `the peer sent a message that this protocol does not have: ${(issue?.message ?? '').slice(0, 200)}${field === '' ? '' : ` at ${field}`}`, field === '' ? {} : { field })
}

/**
 * The wire form of a message, its fields in the order of the protocol's page.
 * @throws BackdoorsError INVALID_ARGUMENT if the message breaks the protocol's own bounds.
 */
export function toWire<S extends z.ZodType>(schema: S, message: z.output<S>): z.input<S> {
  const result = z.safeEncode(schema, message)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  throw new BackdoorsError('INVALID_ARGUMENT', `a message cannot be sent: ${issue?.message ?? 'invalid'}`, { field: (issue?.path ?? []).map(String).join('.') })
}
