/** Memory that another process of this machine reaches, read through that process. */
import { connect, type Socket } from 'node:net'
import { asBackdoorsError, BackdoorsError } from '../../errors.js'
import { FrameDecoder } from '../enrollment/framing.js'
import { memoryAddon } from '../../native/load.js'
import type { SharedMemory } from '../../native/memory.js'
import type { MemoryRange, ReadableMemory } from '../remote-memory.js'
import { answerOf, errorOf, type RelayWelcome } from './relay-messages.js'
import { encodeBatch, frame, jsonFrame, mostAnswerBytes, mostBatchBytes, mostRanges, slotBytes, statuses, windowSlots } from './relay-protocol.js'

const silenceMs = 60_000

interface Waiting {
  readonly resolve: (answer: Buffer) => void
  readonly reject: (error: unknown) => void
}

export class RelayedMemory implements ReadableMemory {
  readonly peer: string
  readonly length: number
  readonly map: RelayWelcome['map']
  /** Where the kernel's notes may be found: hints. */
  readonly notes: readonly number[]
  readonly #stream: FrameStream
  readonly #window: SharedMemory | undefined
  readonly #freeSlots = Array.from({ length: windowSlots }, (_, slot) => slot)
  readonly #waitingForSlot: ((slot: number) => void)[] = []
  #isClosed = false

  private constructor({ peer, length, map, notes, window }: RelayWelcome, stream: FrameStream) {
    this.peer = peer
    this.length = length
    this.map = map
    this.notes = notes
    this.#stream = stream
    this.#window = window === null ? undefined : openWindow(window)
  }

  /**
   * @param path of the relay's socket
   * @param memory its name there
   * @throws BackdoorsError DAEMON_UNAVAILABLE where nobody listens, PEER_UNKNOWN, PROTOCOL_ERROR
   */
  static async connect(path: string, memory: string): Promise<RelayedMemory> {
    const stream = new FrameStream(connect(path), path)
    try {
      const text = await stream.ask(jsonFrame({ memory, window: true }))
      const answer = answerOf(jsonOf(text))
      if (answer === undefined) throw new BackdoorsError('PROTOCOL_ERROR', `The answer from ${path} is not valid.`, { path })
      if (answer instanceof BackdoorsError) throw answer
      return new RelayedMemory(answer, stream)
    } catch (error) {
      stream.close()
      throw error
    }
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    return (await this.readMany([{ offset, length }]))[0] as Uint8Array
  }

  async readMany(ranges: readonly MemoryRange[]): Promise<Uint8Array[]> {
    const batches = batchesOf(ranges)
    const answers = await Promise.all(batches.map(async (batch) => contentOf(await this.#stream.ask(frame(encodeBatch({ ranges: batch, slot: undefined }))), batch)))
    return joinParts(ranges, answers.flat())
  }

  /** By the window, where the ranges fit into a slot of it. */
  async readLent<T>(ranges: readonly MemoryRange[], use: (bytes: readonly Uint8Array[]) => Promise<T>): Promise<T> {
    const total = ranges.reduce((sum, { length }) => sum + length, 0)
    if (this.#window === undefined || total > slotBytes || ranges.length > mostRanges || ranges.length === 0) return await use(await this.readMany(ranges))
    if (this.#isClosed) throw new BackdoorsError('CLOSED', `The memory of ${this.peer} has been closed.`, { peer: this.peer })
    const slot = this.#freeSlots.pop() ?? (await new Promise<number>((resolve) => this.#waitingForSlot.push(resolve)))
    try {
      const answer = await this.#stream.ask(frame(encodeBatch({ ranges, slot })))
      contentOf(answer, [])
      let at = slot * slotBytes
      const { buffer } = this.#window
      return await use(ranges.map(({ length }) => new Uint8Array(buffer, (at += length) - length, length)))
    } finally {
      const next = this.#waitingForSlot.shift()
      if (next) next(slot)
      else this.#freeSlots.push(slot)
      this.#closeWindow()
    }
  }

  close(): Promise<void> {
    this.#stream.close()
    this.#isClosed = true
    this.#closeWindow()
    return Promise.resolve()
  }

  /** What is lent still is, until it is given back. */
  #closeWindow(): void {
    if (this.#isClosed && this.#freeSlots.length === windowSlots) this.#window?.close()
  }
}

/** Of a daemon in another container it cannot be opened, or another file is there; then everything comes by the connection. */
function openWindow({ path, beginning }: NonNullable<RelayWelcome['window']>): SharedMemory | undefined {
  const { SharedMemory } = memoryAddon()
  let window: SharedMemory | undefined
  try {
    window = new SharedMemory({ path, writable: false, length: windowSlots * slotBytes })
    if (Buffer.from(window.buffer, 0, beginning.length / 2).toString('hex') === beginning) return window
  } catch {
    // Nothing of it is needed.
  }
  window?.close()
  return undefined
}

/** As many batches as the limits need; a range longer than a batch is cut, each part but its last as long as a batch. */
function batchesOf(ranges: readonly MemoryRange[]): MemoryRange[][] {
  const batches: MemoryRange[][] = []
  let batch: MemoryRange[] = []
  let bytes = 0
  for (const { offset, length } of ranges) {
    for (let done = 0; done < Math.max(length, 1); done += mostBatchBytes) {
      const part = { offset: offset + done, length: Math.min(length - done, mostBatchBytes) }
      if (batch.length === mostRanges || bytes + part.length > mostBatchBytes) {
        batches.push(batch)
        ;[batch, bytes] = [[], 0]
      }
      batch.push(part)
      bytes += part.length
    }
  }
  if (batch.length > 0) batches.push(batch)
  return batches
}

function joinParts(ranges: readonly MemoryRange[], parts: readonly Uint8Array[]): Uint8Array[] {
  let next = 0
  return ranges.map(({ length }) => {
    const own = parts.slice(next, (next += Math.max(1, Math.ceil(length / mostBatchBytes))))
    return own.length === 1 ? (own[0] as Uint8Array) : new Uint8Array(Buffer.concat(own))
  })
}

/** Undefined where it is no JSON: nothing valid then. */
function jsonOf(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'))
  } catch {
    return undefined
  }
}

/** @throws BackdoorsError what the relay answered, PROTOCOL_ERROR for an answer of another length */
function contentOf(answer: Buffer, batch: readonly MemoryRange[]): Uint8Array[] {
  if (answer[0] === statuses.failed) {
    throw errorOf(jsonOf(answer.subarray(1))) ?? new BackdoorsError('PROTOCOL_ERROR', 'The relay answered with an error that is none.')
  }
  const wanted = batch.reduce((sum, { length }) => sum + length, 1)
  if (answer[0] !== statuses.ok || answer.length !== wanted) throw new BackdoorsError('PROTOCOL_ERROR', `A batch was answered by ${answer.length} bytes instead of ${wanted}.`, { length: answer.length })
  let at = 1
  return batch.map(({ length }) => answer.subarray(at, (at += length)))
}

/** Frames out, frames back in the same order. */
class FrameStream {
  readonly #socket: Socket
  readonly #path: string
  readonly #decoder = new FrameDecoder(mostAnswerBytes)
  readonly #waiting: Waiting[] = []
  #over: BackdoorsError | undefined

  constructor(socket: Socket, path: string) {
    this.#socket = socket
    this.#path = path
    socket.setTimeout(silenceMs, () => {
      if (this.#waiting.length > 0) this.#end(this.#unavailable(`no answer for ${silenceMs} ms`))
    })
    socket.on('error', (error) => this.#end(this.#unavailable(error.message, error)))
    socket.once('close', () => this.#end(this.#unavailable('it closed the connection')))
    socket.on('data', (piece: Buffer) => this.#take(piece))
  }

  ask(request: Buffer): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      if (this.#over) return reject(this.#over)
      this.#waiting.push({ resolve, reject })
      this.#socket.write(request)
    })
  }

  close(): void {
    this.#end(new BackdoorsError('CLOSED', `The connection to ${this.#path} has been closed.`, { path: this.#path }))
  }

  #take(piece: Buffer): void {
    this.#decoder.push(piece)
    try {
      for (let answer = this.#decoder.next(); answer !== undefined; answer = this.#decoder.next()) this.#waiting.shift()?.resolve(answer)
    } catch (error) {
      this.#end(asBackdoorsError(error, 'PROTOCOL_ERROR', `The answer from ${this.#path}`, { path: this.#path }))
    }
  }

  #unavailable(why: string, cause?: unknown): BackdoorsError {
    return new BackdoorsError('DAEMON_UNAVAILABLE', `No daemon answers at ${this.#path}: ${why}. Is it running ("backdoors daemon"), and is this its region?`, { path: this.#path, cause })
  }

  #end(error: BackdoorsError): void {
    if (this.#over) return
    this.#over = error
    this.#socket.destroy()
    for (const { reject } of this.#waiting.splice(0)) reject(error)
  }
}
