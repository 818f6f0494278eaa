/**
 * The messages of one WebSocket. Each is a checkpoint: when its handlers are done, it is not given again, and what was written stands.
 *
 * While a handler is at work, nobody can say whose answer it is that is written, so nothing stands before all that were begun are done.
 */
import type { Connection } from './connection.js'
import { FrameScanner, type FrameKind, type Whole } from './frame-scanner.js'

export class Messages {
  /** The socket is being made known to its server: what is written now was written on the first machine, and stands where that had a checkpoint. */
  opening = true
  /** What is given to the handlers at this moment. */
  current: Whole | undefined
  readonly #connection: Connection
  readonly #scanner: FrameScanner
  /** Those that came whole and are not done with, in the order of their ends: the first `#given` have been given to their handlers. */
  readonly #whole: Whole[] = []
  readonly #running = new Set<Whole>()
  #given = 0

  /** What has come since the upgrade is looked at now. */
  constructor(connection: Connection) {
    const { input } = connection
    this.#connection = connection
    this.#scanner = new FrameScanner(input.start)
    if (input.overflow) connection.giveUp('not-continuable')
    else this.came(input.slice(input.start))
  }

  /** May what is written now be an answer to something that would be given again? */
  get areUnderWay(): boolean {
    // Those whose handlers are done are given again all the same, until a checkpoint says otherwise.
    // A pong, and the answer to a close frame, are written before anybody is told of what they answer.
    return this.#given > 0 || this.#next === 'ping' || this.#next === 'close'
  }

  /** The client has asked for the end, and the server is about to be told. */
  get isClosing(): boolean {
    return this.#next === 'close'
  }

  get #next(): FrameKind | undefined {
    return this.#whole[this.#given]?.kind
  }

  came(bytes: Uint8Array): void {
    this.#scanner.scan(bytes, (one) => this.#whole.push(one))
    if (this.#scanner.bad) this.#connection.giveUp('not-continuable')
  }

  /** Gives the next one to its handlers. @param run calls them; what it returns is done when its promises are */
  give(kind: FrameKind, run: () => readonly unknown[]): void {
    const one = this.#whole[this.#given]
    if (one?.kind !== kind) {
      // The server's reader has found what there was none of for us: whatever the reason, the two must not differ.
      this.#connection.giveUp('not-continuable')
      run()
      return
    }
    this.#given++
    this.#running.add(one)
    const { current } = this
    this.current = one
    let promises: Promise<unknown>[] = []
    try {
      promises = run().filter(isThenable).map((result) => Promise.resolve(result))
    } finally {
      this.current = current
      if (promises.length === 0) this.#done(one)
    }
    // What a handler rejects with is left for whoever looks at rejections.
    if (promises.length > 0) void Promise.all(promises).finally(() => this.#done(one))
  }

  /** All that were given are done with, says the application. @returns whether it holds */
  checkpoint(state: Uint8Array | undefined): boolean {
    if (this.opening || !this.#connection.checkpoint(state, this.#whole.slice(0, this.#given))) return false
    this.#running.clear()
    this.#forget()
    return true
  }

  /** Those that were given are done with, if none of them is at work. */
  advance(): void {
    if (this.#running.size > 0 || this.#given === 0 || this.opening) return
    if (this.#connection.checkpoint(this.#connection.lastState, this.#whole.slice(0, this.#given))) this.#forget()
  }

  /** All that was made anew is the same as it was: what was done with meanwhile is so from now on. */
  compared(): void {
    if (this.opening) return
    if (this.#given === 0) this.opened()
    else this.advance()
  }

  /** The server knows the socket: what it was told first is not said again. */
  opened(): void {
    this.opening = false
    this.#connection.checkpoint(this.#connection.lastState, [])
  }

  #done(one: Whole): void {
    if (this.#running.delete(one)) this.advance()
  }

  #forget(): void {
    this.#whole.splice(0, this.#given)
    this.#given = 0
  }
}

const isThenable = (value: unknown): value is PromiseLike<unknown> => typeof (value as PromiseLike<unknown> | null | undefined)?.then === 'function'
