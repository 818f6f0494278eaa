/**
 * One connection of a continuable server, in normal service: its record, and what its taps are to do.
 *
 * What comes from the client is committed before the server is given it; what the server sends is committed before the kernel is given
 * it. So at any instant of death the record knows all of the input that can have had an effect, and of all output that can have reached
 * the client what it was, either literally or by a digest against which it is made anew.
 *
 * A write is given to the kernel only when that has taken the one before: when a write comes, all earlier output is the kernel's,
 * which keeps it until the client has it, and which is read when the machine has died. Only the last write has to be kept literally.
 */
import type { Socket } from 'node:net'
import { isBackdoorsError } from '../../errors.js'
import type { ResetReason } from '../../recovery/tcp/connection.js'
import { mostBytes, putChunk, unitsOf, type Chunk } from './chunks.js'
import type { Beginning, Common } from './common.js'
import { composeRecord } from './compose.js'
import type { Gate } from './gate.js'
import { InputLog, type RequestMark, type Span } from './input-log.js'
import type { Messages } from './messages.js'
import { OutputLog } from './output-log.js'
import { recordHeaderBytes, wordsOf, type Protocol, type RecordFields } from './record.js'
import { tapSocket } from './socket-taps.js'

/** A checkpoint that takes effect when so much of what the server wrote has been handed on. */
interface Mark {
  readonly units: number
  /** Of the input, what is done with. */
  readonly spans: readonly Span[]
  readonly state: Uint8Array | undefined
}

export class Connection {
  readonly id: string
  readonly socket: Socket
  readonly input: InputLog
  readonly output: OutputLog
  /** In WebSockets, where each message is a checkpoint. */
  messages: Messages | undefined
  /** Number of the next request that the server is given. */
  handed: number
  /** Requests before this number had their whole head when another machine failed. */
  replayedBefore = 0
  gate: { readonly gate: Gate; readonly expected: RecordFields; readonly head: Buffer | undefined; readonly done: (same: boolean) => void } | undefined
  preamble: Buffer | undefined
  /** From where its server goes on that took it over, in the response to this request. */
  continuation: { readonly state: Uint8Array | undefined; readonly bytes: number; readonly request: number } | undefined
  state: Uint8Array | undefined
  /** As the last record has them, but for what changes with each. */
  readonly fields: RecordFields
  readonly #common: Common
  /** The last write, while it may not have come to the kernel. */
  #last: Buffer | undefined
  #marks: Mark[] = []
  /** Of what the server wrote, handed on: bytes of buffers, characters of strings, as `writableLength` counts them. */
  #units = 0
  #lastUnits = 0
  #unkept = false
  #broken: ResetReason | undefined
  #committed: ResetReason | undefined
  #over = false

  constructor(common: Common, socket: Socket, beginning: Beginning) {
    const { protocol, id, nonce, base, inputAt, outputAt } = beginning
    this.#common = common
    this.socket = socket
    this.id = id
    this.handed = beginning.nextRequest
    this.input = new InputLog({ at: inputAt, next: beginning.nextRequest, limit: common.maxInputBytes, http: protocol === 'http', mayUpgrade: common.mayUpgrade })
    this.output = new OutputLog(this.input, outputAt, protocol !== 'raw')
    this.fields = {
      protocol, flags: 0, broken: undefined, baseRead: base.read, baseWritten: base.written, inputAt, outputAt, outputEnd: outputAt,
      contentBefore: 0, ...wordsOf(nonce, common.life), request: 0, crc32c: 0, crc32: 0,
    }
  }

  get protocol(): Protocol {
    return this.fields.protocol
  }

  get nonce(): bigint {
    return (BigInt(this.fields.nonceHigh) << 32n) | BigInt(this.fields.nonceLow)
  }

  get base(): { read: number; written: number } {
    return { read: this.fields.baseRead, written: this.fields.baseWritten }
  }

  /** Sees everything that comes and goes from now on. */
  install(): void {
    this.#common.live.add(this.id)
    tapSocket(this)
  }

  /** Bytes have come. @returns whether the server may be given them */
  took(bytes: Uint8Array): boolean {
    if (this.#isLeftAlone) return this.#isServed()
    this.#settleIfSent()
    this.input.add(bytes)
    if (this.input.upgrade !== undefined && this.preamble === undefined) this.adoptUpgrade()
    this.messages?.came(bytes)
    return this.commit()
  }

  /**
   * All input that was delivered is done with, and of the output nothing is to be made anew but what comes after this.
   * @param done of the input, what is done with, where that is not all
   * @returns whether it holds; not while what was sent before is still compared, nor before the head of a response
   */
  checkpoint(state: Uint8Array | undefined, done?: readonly Span[]): boolean {
    if (this.#over || this.gate !== undefined) return false
    if (done === undefined && this.messages !== undefined) return this.messages.checkpoint(state)
    const { socket } = this
    const spans = done ?? [{ from: 0, end: this.input.end - socket.readableLength }]
    while (socket.writableCorked > 0) socket.uncork()
    // Something is buffered only behind a write that the kernel has not taken yet.
    const buffered = socket.writableLength === 0 ? 0 : Math.max(0, socket.writableLength - this.#lastUnits)
    if (buffered === 0 && !this.output.pastHead) return false
    this.#marks.push({ units: this.#units + buffered, spans, state })
    this.#settleIfSent()
    const lastIsKept = this.#last === undefined ? socket.writableLength === 0 : true
    if (buffered === 0 && lastIsKept) {
      this.#reachMarks()
      return this.commit()
    }
    return true
  }

  /** Of the last checkpoint, whether it has taken effect or not. */
  get lastState(): Uint8Array | undefined {
    return this.#marks.length > 0 ? this.#marks.at(-1)?.state : this.state
  }

  /** Commits the state as it is. @returns whether the connection goes on */
  commit(): boolean {
    const last = this.#last
    if (last === undefined) return this.#commit(0)
    const { scratch } = this.#common
    scratch.reserve(recordHeaderBytes + last.length, 0)
    scratch.bytes.set(last, recordHeaderBytes)
    return this.#commit(last.length)
  }

  /** Takes it that `bytes` have been decided, which the kernel may not have. */
  keepLiteral(bytes: Buffer): void {
    this.#last = bytes
    this.#lastUnits = bytes.length
    this.#units += bytes.length
  }

  /** If the client has asked for another protocol: what comes after that is no longer HTTP. */
  adoptUpgrade(): void {
    const { upgrade, requests } = this.input
    if (upgrade === undefined || this.preamble !== undefined) return
    if (requests[0] !== upgrade) return this.giveUp('not-continuable')
    this.preamble = this.input.slice(upgrade.start, upgrade.headEnd)
    this.input.drop(upgrade.headEnd)
    this.fields.protocol = 'upgraded'
  }

  /** From now on it is reset if its machine dies. */
  giveUp(reason: ResetReason): void {
    if (this.#broken !== undefined || this.#over) return
    this.#broken = reason
    this.#common.gaveUp(reason)
  }

  /** Nothing more is kept of it. */
  end(): void {
    if (this.#over) return
    this.#over = true
    this.#common.live.delete(this.id)
    try {
      this.#common.store.delete(this.id)
    } catch (error) {
      if (!isBackdoorsError(error, 'FENCED', 'CLOSED')) throw error
    }
  }

  get isOver(): boolean {
    return this.#over
  }

  /** What the server writes now has to be compared with what was written before. */
  get isComparing(): boolean {
    return this.gate !== undefined
  }

  /** There is nothing to keep for it any more. */
  get #isLeftAlone(): boolean {
    return this.#over || (this.#broken !== undefined && this.#committed === this.#broken)
  }

  /** Whether its server goes on with it, which keeps nothing for it any more: a fenced one may not answer, whatever it keeps. */
  #isServed(): boolean {
    if (this.socket.destroyed) return false
    try {
      this.#common.store.checkFence()
      return true
    } catch (error) {
      return this.#failed(error)
    }
  }

  /** Nothing came but the head of one request, and nobody gets it but the parser, at once. */
  get isHeadAlone(): boolean {
    const { input, socket } = this
    const { requests } = input
    if (requests.length !== 1 || this.fields.protocol !== 'http') return false
    const [request] = requests as [RequestMark]
    return request.headEnd === input.end && request.end === input.end && socket.readableFlowing === true && socket.readableLength === 0 && socket.listenerCount('data') === 1
  }

  #settleIfSent(): void {
    if (this.socket.writableLength > 0) return
    this.#last = undefined
    this.#unkept = false
    this.output.settle()
    if (this.#marks.length > 0 && this.gate === undefined) this.#reachMarks()
  }

  /**
   * Decides what the server writes.
   * @returns false where the kernel may not be given it, true where it may as it is; or what to give it in place of these chunks: the same
   * bytes, of which `handedOn` is to be told
   */
  decide(chunks: readonly Chunk[]): Buffer | boolean {
    if (this.#isLeftAlone) return this.#isServed()
    const { output } = this
    this.#unkept = false
    this.#last = undefined
    output.settle()
    const literal = this.#follow(chunks)
    if (this.fields.protocol !== 'http' && output.checkpointed && this.#marks.length === 0 && !(this.messages?.areUnderWay ?? this.input.length > 0)) {
      // Not an answer to anything that is still under way: it stands as it is.
      output.checkpoint()
      if (literal === 0) this.#unkept = true
    }
    if (!this.#commit(literal)) return false
    return literal === 0 ? true : this.#common.scratch.literal(recordHeaderBytes, literal)
  }

  /** The kernel was given what was decided. What it has not taken yet must stay as it is. */
  handedOn(decided: Buffer): void {
    if (this.socket.writableLength === 0) return
    this.#last = decided
    this.#common.scratch.leave()
  }

  /** The end of what was made anew, which was counted already. @returns whether the kernel may be given it */
  decideRest(rest: Buffer): boolean {
    const lastUnits = this.#lastUnits
    this.#units -= rest.length
    const decided = this.decide([{ chunk: rest, encoding: 'latin1' }])
    // What is on its way is all that was counted, to the stream.
    this.#lastUnits = lastUnits
    // The kernel gets `rest` itself, which is nobody else's.
    if (typeof decided !== 'boolean') this.#last = rest
    return decided !== false
  }

  /** These were written, and are the last: while the kernel has not all that it gets of them, the stream counts them whole. */
  count(chunks: readonly Chunk[]): void {
    this.#lastUnits = unitsOf(chunks)
    this.#units += this.#lastUnits
  }

  /** Looks at the chunks, and puts them into the scratch, where they are few enough to be kept. @returns bytes put there */
  #follow(chunks: readonly Chunk[]): number {
    const most = mostBytes(chunks)
    this.#lastUnits = unitsOf(chunks)
    const isLiteral = most <= this.#common.maxLiteralBytes
    if (isLiteral) this.#common.scratch.reserve(recordHeaderBytes + most, 0)
    const literal = isLiteral && this.#marks.length === 0 ? this.#followAtOnce(chunks) : this.#followEach(chunks, isLiteral)
    if (this.output.bad) this.giveUp('not-continuable')
    return literal
  }

  #followAtOnce(chunks: readonly Chunk[]): number {
    const { bytes } = this.#common.scratch
    let at: number = recordHeaderBytes
    for (const one of chunks) at += putChunk(one, bytes, at)
    this.#units += this.#lastUnits
    this.output.add(bytes, recordHeaderBytes, at, true)
    return at - recordHeaderBytes
  }

  /** Checkpoints take effect between chunks. */
  #followEach(chunks: readonly Chunk[], isLiteral: boolean): number {
    const { bytes: scratch } = this.#common.scratch
    let at: number = recordHeaderBytes
    for (const one of chunks) {
      if (this.#marks.length > 0) this.#reachMarks()
      const { chunk, encoding } = one
      this.#units += chunk.length
      const bytes = isLiteral ? scratch : typeof chunk === 'string' ? Buffer.from(chunk, encoding) : chunk
      const start = isLiteral ? at : 0
      if (isLiteral) at += putChunk(one, scratch, at)
      this.output.add(bytes, start, isLiteral ? at : bytes.length, isLiteral)
    }
    // Of what is not kept, nothing stands before the kernel has all of it.
    if (isLiteral && this.#marks.length > 0) this.#reachMarks()
    return at - recordHeaderBytes
  }

  #reachMarks(): void {
    for (let mark = this.#marks[0]; mark !== undefined && mark.units <= this.#units; mark = this.#marks[0]) {
      this.#marks.shift()
      if (!this.output.pastHead) continue
      this.output.checkpoint()
      this.state = mark.state
      if (this.protocol !== 'http') this.input.checkpoint(mark.spans)
    }
  }

  #reason(): ResetReason | undefined {
    if (this.#broken !== undefined) return this.#broken
    if (this.input.overflow || this.output.blocked || this.#unkept) return 'too-large'
    if (this.input.bad) this.giveUp('not-continuable')
    return this.#broken
  }

  /** @param literal bytes that are in the scratch already. @returns whether the connection goes on */
  #commit(literal: number): boolean {
    const { store, scratch } = this.#common
    const reason = this.#reason()
    if (reason !== undefined && reason === this.#committed) return this.#isServed()
    try {
      store.commit(this.id, scratch.take(composeRecord(this, scratch, literal, reason)))
      this.#committed = reason
      return true
    } catch (error) {
      return this.#failed(error)
    }
  }

  #failed(error: unknown): boolean {
    if (isBackdoorsError(error, 'FENCED', 'CLOSED')) {
      // Another machine may be answering already: not a byte more, and no orderly end, which a client could take for that of its answer.
      this.#over = true
      this.#common.live.delete(this.id)
      this.#common.gaveUp(error.code === 'FENCED' ? 'FENCED' : 'CLOSED')
      this.socket.resetAndDestroy()
      return false
    }
    if (!isBackdoorsError(error, 'BOX_FULL', 'SESSION_TOO_LARGE')) throw error
    this.giveUp('not-continuable')
    this.end()
    return true
  }
}
