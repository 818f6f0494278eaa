/**
 * Goes on with a connection of a failed machine: decides from its record, and from what that machine's kernel had read and written,
 * whether that can be done exactly, and does it.
 */
import type { Socket } from 'node:net'
import type { ResetReason } from '../../recovery/tcp/connection.js'
import type { RestoredConnection } from '../restored-connection.js'
import type { Common } from './common.js'
import { untilCompared } from './comparison.js'
import { Connection } from './connection.js'
import { Gate } from './gate.js'
import type { RequestMark } from './input-log.js'
import { recordFlags, wordsOf, type ConnectionRecord, type RecordFields } from './record.js'

/** A request that was begun on the failed machine, and whose response was not decided there; or what a `net` server was not done with. */
export interface UnfinishedRequest {
  /** Of a `net` server, it is empty, and so is all that would be in a head. */
  readonly method: string
  readonly url: string
  /** As they came, name and value in turn, as `rawHeaders` of `http.IncomingMessage` has them. */
  readonly rawHeaders: readonly string[]
  /** All of its body had come. */
  readonly complete: boolean
  /** As `requestKey` gives it to the handler; of a `net` server, its end is the place in the input where it begins. */
  readonly key: string
}

export interface Plan {
  /** Positions: what the failed machine had read, and written. */
  readonly read: number
  readonly written: number
  /** Decided, and not yet the kernel's. */
  readonly send: Buffer
  /** Whether there is anything that has to be made anew and compared. */
  readonly compare: boolean
  /** Where the output stands after what is sent. */
  readonly outputEnd: number
}

/** @returns how it goes on, or why it cannot. Pure. */
export function planOf(record: ConnectionRecord, restored: Pick<RestoredConnection, 'life' | 'read' | 'written' | 'unacknowledged'>): Plan | ResetReason {
  const read = record.base.read + restored.read
  const written = record.base.written + restored.written
  // The machine that failed last had not come to a record of its own: its counts begin where nobody knows.
  if (record.life.toString(16) !== restored.life) return 'no-record'
  if (record.broken !== undefined) return record.broken
  if (!Number.isSafeInteger(read) || !Number.isSafeInteger(written) || restored.unacknowledged > restored.written) return 'output-unknown'
  if (read !== record.inputAt + record.input.length) return 'input-missing'
  const { outputAt, outputEnd, literal } = record
  if (written > outputEnd) return 'output-unknown'
  const literalAt = outputEnd - literal.length
  // Nothing has left of what was under way: it need not be the same again.
  if (written <= outputAt && !record.checkpointed && (literalAt <= written || written === outputAt)) {
    return { read, written, send: slice(literal, written - literalAt, outputAt - literalAt), compare: false, outputEnd: outputAt }
  }
  // A response that goes on from a checkpoint has a head again, which the client has already.
  const compare = outputEnd > outputAt || (record.checkpointed && record.protocol !== 'raw')
  if (written >= literalAt) return { read, written, send: slice(literal, written - literalAt, literal.length), compare, outputEnd }
  return written >= outputAt ? { read, written, send: Buffer.alloc(0), compare: true, outputEnd } : 'output-unknown'
}

const slice = (bytes: Buffer, start: number, end: number): Buffer => (end > start ? bytes.subarray(Math.max(0, start), end) : Buffer.alloc(0))

export interface TakeOverOptions {
  readonly common: Common
  readonly mayRepeat: (request: UnfinishedRequest) => boolean
  /** How long a server that makes a response anew may say nothing, in milliseconds. */
  readonly silenceMs: number
  /** Gives the socket to the server, with the connection's taps on it. */
  readonly serve: (socket: Socket, connection: Connection) => void
}

/** @returns why it is reset, once that is known; undefined when it goes on */
export async function continueConnection(record: ConnectionRecord, restored: RestoredConnection, options: TakeOverOptions): Promise<ResetReason | undefined> {
  const plan = planOf(record, restored)
  if (typeof plan === 'string') return plan
  const { socket } = restored
  const connection = beginAgain(record, restored, plan, options.common)
  const { input } = connection
  const finished = record.complete && plan.written + plan.send.length === record.outputEnd
  const refused = finished ? finishFirst(connection) : undefined
  const reason = refused ?? (input.bad || (record.protocol === 'upgraded') !== (connection.preamble !== undefined) ? 'not-continuable' : refusal(connection, record, options))
  if (reason !== undefined) return reason
  connection.replayedBefore = input.next
  const compared = plan.compare && !finished ? compare(connection, record, plan, options) : undefined
  if (!compared) connection.output.start = connection.output.end = plan.outputEnd
  if (plan.send.length > 0) connection.keepLiteral(plan.send)
  // Before anything is read or written here: from now on counts begin anew, and the next failure is reckoned from them.
  if (!connection.commit()) return 'not-continuable'
  if (plan.send.length > 0) socket.write(plan.send)
  connection.install()
  const again = Buffer.concat([connection.preamble ?? Buffer.alloc(0), input.slice(input.start)])
  if (again.length > 0) socket.unshift(again)
  options.serve(socket, connection)
  return await compared
}

function beginAgain(record: ConnectionRecord, restored: RestoredConnection, plan: Plan, common: Common): Connection {
  const { protocol, inputAt, preamble } = record
  const connection = new Connection(common, restored.socket, {
    protocol: protocol === 'upgraded' ? 'http' : protocol, id: restored.name, nonce: record.nonce,
    // The unacknowledged bytes are written once more, by this machine's kernel, which counts them as its own.
    base: { read: plan.read, written: plan.written - restored.unacknowledged },
    inputAt: inputAt - preamble.length, outputAt: record.outputAt, nextRequest: record.request,
  })
  connection.state = record.state
  if (record.checkpointed) connection.continuation = { state: record.state, bytes: record.contentBefore, request: record.request }
  if (protocol === 'raw' && record.checkpointed) {
    connection.output.checkpointed = true
    connection.output.contentBefore = record.contentBefore
  }
  if (preamble.length > 0) {
    connection.input.add(preamble)
    connection.adoptUpgrade()
  }
  if (record.input.length > 0) connection.input.add(record.input)
  return connection
}

/** The first request was answered to the last byte: the server is not given it, and its number is nobody else's. */
function finishFirst(connection: Connection): ResetReason | undefined {
  const { input } = connection
  const [first] = input.requests
  if (first === undefined || first.end < 0) return 'not-continuable'
  first.answered = true
  input.shift()
  connection.handed++
  return undefined
}

/** Whether giving the unfinished requests to a server again could do something twice. */
function refusal({ input, id, nonce, preamble }: Connection, record: ConnectionRecord, { mayRepeat }: TakeOverOptions): ResetReason | undefined {
  if (record.protocol === 'raw') {
    const { start: at, length } = input
    return length === 0 || mayRepeat({ method: '', url: '', rawHeaders: [], complete: false, key: keyOf(id, nonce, at) }) ? undefined : 'not-repeatable'
  }
  const refused = input.requests.some((request) => !mayRepeat(unfinished(request, preamble ?? input.slice(request.start, request.headEnd), keyOf(id, nonce, request.number))))
  return refused ? 'not-repeatable' : undefined
}

export const keyOf = (id: string, nonce: bigint, number: number): string => `${id} ${nonce.toString(16).padStart(16, '0')} ${number}`

function unfinished({ method, end }: RequestMark, head: Buffer, key: string): UnfinishedRequest {
  const [first = '', ...lines] = head.toString('latin1').split('\r\n')
  const rawHeaders = lines.filter((line) => line !== '').flatMap((line) => {
    const colon = line.indexOf(':')
    return [line.slice(0, colon), line.slice(colon + 1).trim()]
  })
  return { method, url: first.split(' ')[1] ?? '', rawHeaders, complete: end >= 0, key }
}

/** @returns why it is reset, where what is made anew was not the same, or did not come */
function compare(connection: Connection, record: ConnectionRecord, plan: Plan, { common, silenceMs }: TakeOverOptions): Promise<ResetReason | undefined> {
  const { outputAt: start, outputEnd: end, head, checkpointed, complete, contentBefore, crc32c, crc32 } = record
  const hasHead = record.protocol !== 'raw'
  const written = plan.written + plan.send.length
  const gate = new Gate({ head: hasHead ? head : undefined, checkpointed, contentBefore, start, end, written, crc32c, crc32 }, connection.output, common.volatile)
  const expected: RecordFields = {
    protocol: record.protocol, flags: (complete ? recordFlags.complete : 0) | (checkpointed ? recordFlags.checkpointed : 0) | (record.state === undefined ? 0 : recordFlags.hasState),
    broken: undefined, baseRead: plan.read, baseWritten: connection.base.written, inputAt: record.inputAt, outputAt: start, outputEnd: end,
    contentBefore, ...wordsOf(record.nonce, common.life), request: record.request, crc32c, crc32,
  }
  return untilCompared({ socket: connection.socket, gate, silenceMs, begin: (done) => (connection.gate = { gate, expected, head, done }) })
}
