/** From sockets to connections: all their queues at once, then all their bytes at once. */
import { BackdoorsError } from '../../errors.js'
import type { KernelImage } from '../kernel-image.js'
import type { KernelObject } from '../kernel-object.js'
import type { PageFrames } from '../page-frames.js'
import { connectionOf, established, isHeld, queuesOf, refusalOf, refusalOfQueues, type ExtractedConnection, type Queues, type Refusal } from './extracted-connection.js'
import type { ConnectionLayout, TcpNumbers } from './layout.js'
import { distance, planStream, type PlannedPiece } from './sequence.js'
import { readQueues } from './socket-buffers.js'
import { readStreams, type PlannedStream } from './stream-bytes.js'
import type { Endpoints } from './wanted.js'

/** A wanted connection on its way. */
export interface Job extends Endpoints {
  readonly address: bigint
  socket: KernelObject | BackdoorsError
  outcome?: ExtractedConnection | Refusal
}

/** A connection of which nothing is wrong so far. */
interface Sound {
  readonly job: Job
  readonly socket: KernelObject
  readonly numbers: TcpNumbers
  readonly queues: Queues
}

interface Planned extends Sound {
  readonly unread: PlannedStream
  readonly unacknowledged: PlannedStream
}

/** Bytes of all connections together, at most: a memory that lies may have the same page in all queues. */
const mostBytes = 512 << 20

export interface Extracting {
  readonly image: KernelImage
  readonly layout: ConnectionLayout
  /** Undefined where it is not known where pages are: what is in pages cannot be read. */
  readonly frames: PageFrames | undefined
}

/** Settles what became of each that nothing is said of yet. @throws what reading throws but NOT_MAPPED */
export async function extract({ image, layout, frames }: Extracting, jobs: readonly Job[]): Promise<void> {
  const sound = soundAmong(jobs.filter(({ outcome }) => outcome === undefined), layout)
  await readQueues(image, layout, frames, sound.flatMap(({ queues: { received, sent, unsent } }) => [received, sent, unsent]))
  const planned: Planned[] = []
  for (const one of sound) {
    const streams = planOf(one)
    if ('reason' in streams) one.job.outcome = streams
    else planned.push({ ...one, ...streams })
  }
  const read = await readStreams(image, planned.flatMap(({ unread, unacknowledged }) => [unread, unacknowledged]))
  for (const [i, { job, socket, numbers }] of planned.entries()) {
    const [unread, unacknowledged] = [read[2 * i] as Uint8Array | string, read[2 * i + 1] as Uint8Array | string]
    if (typeof unread === 'string') job.outcome = { reason: 'unreadable', why: unread }
    else if (typeof unacknowledged === 'string') job.outcome = { reason: 'unreadable', why: unacknowledged }
    else job.outcome = connectionOf({ local: job.local, remote: job.remote, socket: job.address, namespace: namespaceOf(socket, layout) }, numbers, { unread, unacknowledged })
  }
}

function soundAmong(jobs: readonly Job[], layout: ConnectionLayout): Sound[] {
  const sound: Sound[] = []
  let bytes = 0
  for (const job of jobs) {
    const { socket } = job
    if (socket instanceof BackdoorsError) {
      job.outcome = { reason: 'unreadable', why: socket.message }
      continue
    }
    // What only waits, or is not yet whole, is shorter than a socket.
    const state = socket.number(layout.sockets.common.skc_state)
    if (socket.selection !== layout.sockets.whole || state !== established) {
      job.outcome = { reason: 'not-established', why: `it is in state ${state} of TCP` }
      continue
    }
    const numbers = layout.numbers.of(socket)
    const refusal = refusalOf(numbers)
    bytes += refusal ? 0 : distance(numbers.copiedSeq, numbers.rcvNxt) + distance(numbers.sndUna, numbers.writeSeq)
    if (refusal) job.outcome = refusal
    else if (bytes > mostBytes) job.outcome = { reason: 'too-large', why: `all connections together have more than ${mostBytes} bytes under way` }
    else sound.push({ job, socket, numbers, queues: queuesOf(socket) })
  }
  return sound
}

function namespaceOf(socket: KernelObject, { sockets: { common } }: ConnectionLayout): bigint | undefined {
  const path = common['skc_net.net']
  return socket.selection.has(path) ? socket.pointer(path) : undefined
}

/** What was received and not read, and what was written and not acknowledged: sent, and then not sent. */
function planOf({ numbers, queues }: Sound): Pick<Planned, 'unread' | 'unacknowledged'> | Refusal {
  const refusal = refusalOfQueues(numbers, queues)
  if (refusal) return refusal
  const { copiedSeq, rcvNxt, sndUna, sndNxt, writeSeq } = numbers
  const wrong = (what: string, why: string): Refusal => ({ reason: isHeld(numbers) ? 'in-use' : 'garbage', why: `of what was ${what}: ${why}` })
  const unread = planStream(queues.received.buffers, copiedSeq, distance(copiedSeq, rcvNxt))
  if (typeof unread === 'string') return wrong('received', unread)
  // A tree is read level by level.
  const inOrder = [...queues.sent.buffers].sort((a, b) => distance(sndUna, a.seq) - distance(sndUna, b.seq))
  const sentBytes = distance(sndUna, sndNxt)
  const unacknowledged = planStream(inOrder, sndUna, sentBytes)
  if (typeof unacknowledged === 'string') return wrong('sent', unacknowledged)
  const unsent = planStream(queues.unsent.buffers, sndNxt, distance(sndNxt, writeSeq))
  if (typeof unsent === 'string') return wrong('not sent yet', unsent)
  return {
    unread: { length: distance(copiedSeq, rcvNxt), pieces: unread },
    unacknowledged: { length: distance(sndUna, writeSeq), pieces: [...unacknowledged, ...unsent.map((piece): PlannedPiece => ({ ...piece, at: piece.at + sentBytes }))] },
  }
}
