/**
 * Every instant at which a machine can die, as far as a client can tell. A server serves one connection, undisturbed; each of its commits
 * is kept. Between a commit and the next one the kernel has taken some of the output that the first one decided: so each commit, with
 * each such count of bytes, is a machine that died there. From each of them another server goes on, and its client gets the rest.
 */
import { once } from 'node:events'
import { connect, type Server, type Socket } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import { continuable, type Continuable, type ContinuableOptions } from '../continuable.js'
import { decodeRecord, type ConnectionRecord } from '../record.js'
import { listening, pairOfSockets, PlayedNode } from './harness.js'

const store = 'connections:shop'

export interface Instant {
  readonly record: Buffer
  readonly decoded: ConnectionRecord
  /** Bytes that the dead kernel had taken. */
  readonly written: number
  /** What `observe` said when this was committed. */
  readonly observed: number
}

export interface Story {
  /** Parts as the client sends them: the next one when the server has read the one before. */
  readonly input: readonly (string | Buffer)[]
  readonly server: () => Server
  readonly options?: ContinuableOptions
  /** What the client waits for, undisturbed, before it sends the last part. */
  readonly awaits?: (output: Buffer) => boolean
  /** What the client has got when all is over. */
  readonly isWhole: (output: Buffer) => boolean
  readonly observe?: () => number
}

export interface Undisturbed {
  readonly input: Buffer
  readonly output: Buffer
  readonly instants: readonly Instant[]
}

function serve({ server: make, options }: Story, node: PlayedNode): { server: Server; connections: Continuable } {
  const server = make()
  const connections = continuable(server, node, { name: 'shop', ...options })
  return { server, connections }
}

function end(server: Server, sockets: readonly Socket[]): void {
  for (const socket of sockets) socket.destroy()
  server.close()
}

interface Commit {
  readonly record: Buffer
  readonly observed: number
}

/** All that its servers commit from now on. */
function commitsOf(story: Story, node: PlayedNode): Commit[] {
  const commits: Commit[] = []
  const sessions = node.sessions<Uint8Array>(store)
  const commit = sessions.commit.bind(sessions)
  sessions.commit = (id, value) => {
    commits.push({ record: Buffer.from(value), observed: story.observe?.() ?? 0 })
    commit(id, value)
  }
  return commits
}

/** A kernel that has taken what it is given a turn of the event loop later. */
function slowDown(socket: Socket): void {
  const write = socket._write.bind(socket)
  const writev = socket._writev?.bind(socket)
  const later = (callback: (error?: Error | null) => void) => (error?: Error | null): void => void setImmediate(callback, error)
  socket._write = (chunk, encoding, callback) => write(chunk, encoding, later(callback))
  socket._writev = (chunks, callback) => writev?.(chunks, later(callback))
}

/** Serves the story's connection from its beginning to its end. */
export async function undisturbed(story: Story): Promise<Undisturbed> {
  const node = new PlayedNode()
  const commits = commitsOf(story, node)
  const { server } = serve(story, node)
  const client = connect({ port: await listening(server), host: '127.0.0.1', noDelay: true })
  const received: Buffer[] = []
  client.on('data', (bytes: Buffer) => received.push(bytes))
  await once(client, 'connect')
  const has = async (isEnough: (output: Buffer) => boolean): Promise<void> => {
    while (!isEnough(Buffer.concat(received))) await once(client, 'data')
  }
  let sent = 0
  for (const part of story.input) {
    if (part === story.input.at(-1)) await has(story.awaits ?? (() => true))
    client.write(part)
    sent += part.length
    while (readBy(commits.at(-1)?.record) < sent) await turn()
  }
  await has(story.isWhole)
  end(server, [client])
  const input = Buffer.concat(story.input.map((part) => Buffer.from(part as string)))
  return { input, output: Buffer.concat(received), instants: instantsOf(commits, 0) }
}

function readBy(record: Buffer | undefined): number {
  const decoded = record && decodeRecord(record)
  if (decoded === undefined) return 0
  return decoded.broken === undefined ? decoded.inputAt + decoded.input.length : Infinity
}

/** @param taken bytes of the output that were an earlier kernel's */
function instantsOf(commits: readonly Commit[], taken: number): Instant[] {
  let before = taken
  return commits.flatMap(({ record, observed }) => {
    const decoded = decodeRecord(record)!
    const lowest = Math.min(before, decoded.outputEnd - decoded.literal.length)
    before = decoded.outputEnd
    return Array.from({ length: decoded.outputEnd - lowest + 1 }, (_, i) => ({ record, decoded, written: lowest + i, observed }))
  })
}

export interface Ended {
  readonly instant: Instant
  /** Why it was reset; undefined where it went on. */
  readonly reset: string | undefined
  /** What the client has got in all. */
  readonly output: Buffer
}

/** A machine on which connections go on, one after the other. */
export class Successor {
  readonly connections: Continuable
  readonly #node = new PlayedNode()
  readonly #story: Story
  readonly #isSlow: boolean
  readonly #server: Server
  readonly #commits: Commit[]
  #count = 0

  private constructor(story: Story, isSlow: boolean) {
    this.#story = story
    this.#isSlow = isSlow
    const { server, connections } = serve(story, this.#node)
    this.#server = server
    this.connections = connections
    this.#commits = commitsOf(story, this.#node)
  }

  /** @param isSlow its kernel takes nothing at once */
  static async start(story: Story, isSlow = false): Promise<Successor> {
    const successor = new Successor(story, isSlow)
    await listening(successor.#server)
    return successor
  }

  /** Goes on from an instant, until the client has everything or its connection has ended. */
  async goOn({ input, output }: Undisturbed, instant: Instant, change: { read?: number; record?: Uint8Array } = {}): Promise<Ended> {
    const name = `client-${this.#count++}`
    this.#node.records('shop').commit(name, change.record ?? instant.record)
    this.#commits.length = 0
    const [ours, theirs] = await pairOfSockets()
    if (this.#isSlow) slowDown(theirs)
    const received = [output.subarray(0, instant.written)]
    const closed = new Promise<void>((resolve) => ours.on('error', () => undefined).on('close', () => resolve()))
    const { decoded, written } = instant
    const read = decoded.inputAt + decoded.input.length
    const unacknowledged = Math.min(3, written - decoded.base.written)
    const restored = { name, life: decoded.life.toString(16), socket: theirs, read: change.read ?? read - decoded.base.read, written: written - decoded.base.written, unread: 0, unacknowledged }
    const outcome = this.#node.onlyHandler(restored)
    ours.write(input.subarray(read))
    const whole = new Promise<void>((resolve) => {
      const look = (bytes?: Buffer): void => {
        if (bytes !== undefined) received.push(bytes)
        if (this.#story.isWhole(Buffer.concat(received))) resolve()
      }
      ours.on('data', look)
      look()
    })
    const { reset } = await outcome
    await (reset === undefined ? Promise.race([whole, closed]) : closed)
    ours.destroy()
    theirs.destroy()
    return { instant, reset, output: Buffer.concat(received) }
  }

  /** Those of the connection that went on last. */
  instantsSince({ written }: Instant): Instant[] {
    return instantsOf(this.#commits, written)
  }

  end(): void {
    end(this.#server, [])
  }
}

/** From each of an undisturbed run's instants, or from so many of them spread over all. */
export async function everyInstant(story: Story, most = 400): Promise<{ run: Undisturbed; ends: Ended[] }> {
  const run = await undisturbed(story)
  const successor = await Successor.start(story)
  const ends: Ended[] = []
  for (const instant of spread(run.instants, most)) ends.push(await successor.goOn(run, instant))
  successor.end()
  return { run, ends }
}

/** From so many of an undisturbed run's instants another machine goes on, and from so many instants of each of these a third one. */
export async function everySecondInstant(story: Story, { first, second }: { readonly first: number; readonly second: number }): Promise<{ run: Undisturbed; ends: Ended[] }> {
  const run = await undisturbed(story)
  const [next, last] = [await Successor.start(story, true), await Successor.start(story)]
  const ends: Ended[] = []
  for (const instant of spread(run.instants, first)) {
    ends.push(await next.goOn(run, instant))
    for (const again of spread(next.instantsSince(instant), second)) ends.push(await last.goOn(run, again))
  }
  next.end()
  last.end()
  return { run, ends }
}

function spread<T>(all: readonly T[], most: number): T[] {
  const length = Math.min(most, all.length)
  return Array.from({ length }, (_, i) => all[Math.floor((i * all.length) / length)] as T)
}
