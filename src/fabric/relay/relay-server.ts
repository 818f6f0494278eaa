/** Lets other processes of this machine, of the same user, read memory that this process reaches. */
import { randomBytes } from 'node:crypto'
import { chmodSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import type { Logger } from 'pino'
import { asBackdoorsError, BackdoorsError } from '../../errors.js'
import { memoryAddon } from '../../native/load.js'
import type { SharedMemory } from '../../native/memory.js'
import { readInto } from '../bulk-reads.js'
import { FrameDecoder } from '../enrollment/framing.js'
import type { ReadableMemory } from '../remote-memory.js'
import { helloOf, type RelayWelcome } from './relay-messages.js'
import { decodeBatch, jsonFrame, mostRequestBytes, slotBytes, statuses, windowSlots, type Batch } from './relay-protocol.js'

/** Batches of one connection that are read at a time; more wait unread in the socket. */
const mostUnderWay = 4

export interface RelayedSource extends Omit<RelayWelcome, 'peer' | 'length' | 'window'> {
  readonly memory: ReadableMemory
}

export interface RelayServerOptions {
  /** Of the unix socket; mode 0600. */
  readonly path: string
  /** @throws BackdoorsError PEER_UNKNOWN, … which the client is told */
  readonly find: (name: string) => RelayedSource
  readonly log: Logger
}

export class RelayServer {
  readonly #options: RelayServerOptions
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  constructor(options: RelayServerOptions) {
    this.#options = options
    this.#server = createServer((socket) => this.#serve(socket))
  }

  /** A socket file that is there is a dead server's: its owner sees to that. @throws BackdoorsError SYSTEM_CALL_FAILED */
  async listen(): Promise<void> {
    const { path } = this.#options
    rmSync(path, { force: true })
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (error) => reject(asBackdoorsError(error, 'SYSTEM_CALL_FAILED', `Cannot listen on ${path}`, { path })))
      this.#server.listen(path, resolve)
    })
    chmodSync(path, 0o600)
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve))
  }

  #serve(socket: Socket): void {
    const { log, find } = this.#options
    const connection = new RelayConnection(socket, find)
    this.#sockets.add(socket)
    socket.on('error', (error) => log.debug({ err: error }, 'a connection to the memory relay failed'))
    socket.once('close', () => {
      this.#sockets.delete(socket)
      connection.close()
    })
    socket.on('data', (piece: Buffer) => connection.take(piece))
  }
}

class RelayConnection {
  readonly #socket: Socket
  readonly #find: RelayServerOptions['find']
  readonly #decoder = new FrameDecoder(mostRequestBytes)
  #memory: ReadableMemory | undefined
  #window: SharedMemory | undefined
  #isClosed = false
  #underWay = 0
  #answered: Promise<unknown> = Promise.resolve()

  constructor(socket: Socket, find: RelayServerOptions['find']) {
    this.#socket = socket
    this.#find = find
  }

  take(piece: Buffer): void {
    this.#decoder.push(piece)
    this.#drain()
  }

  /** What is being read into the window still has it until then. */
  close(): void {
    this.#isClosed = true
    if (this.#underWay === 0) this.#window?.close()
  }

  #drain(): void {
    if (this.#isClosed) return this.close()
    try {
      while (this.#underWay < mostUnderWay) {
        const request = this.#decoder.next()
        if (request === undefined) return void this.#socket.resume()
        if (this.#memory) this.#start(this.#memory, request)
        else this.#greet(request)
      }
      this.#socket.pause()
    } catch (error) {
      // What came in is no request: nothing that follows can be understood either.
      this.#socket.end(jsonFrame({ error: describe(error) }))
    }
  }

  #greet(request: Buffer): void {
    const hello = helloOf(JSON.parse(request.toString('utf8')))
    if (hello === undefined) throw new BackdoorsError('PROTOCOL_ERROR', 'The first frame has to name a memory.')
    const { memory, ...rest } = this.#find(hello.memory)
    this.#memory = memory
    this.#window = hello.window ? openWindow() : undefined
    const window = this.#window ? { path: `/proc/${process.pid}/fd/${this.#window.fd}`, beginning: begin(this.#window) } : null
    this.#socket.write(jsonFrame({ peer: memory.peer, length: memory.length, ...rest, window } satisfies RelayWelcome))
  }

  /** Batches are read side by side, and answered in order. */
  #start(memory: ReadableMemory, request: Buffer): void {
    const batch = decodeBatch(request)
    this.#underWay += 1
    const read = this.#read(memory, batch).then(
      (found) => answerFrame(statuses.ok, found),
      (error: unknown) => answerFrame(statuses.failed, [Buffer.from(JSON.stringify(describe(error)))]),
    )
    this.#answered = this.#answered.then(async () => {
      const answer = await read
      // As long as it is not taken, no more is read for this client.
      await new Promise<void>((resolve) => this.#socket.write(answer, () => resolve()))
      this.#underWay -= 1
      this.#drain()
    })
  }

  /** @returns what the answer has to bring: nothing, where it was read into the window */
  async #read(memory: ReadableMemory, { ranges, slot }: Batch): Promise<readonly Uint8Array[]> {
    if (slot === undefined) return await memory.readMany(ranges)
    if (this.#window === undefined) throw new BackdoorsError('PROTOCOL_ERROR', 'A batch names a slot, and there is no window.')
    await readInto(memory, ranges, new Uint8Array(this.#window.buffer, slot * slotBytes, slotBytes))
    return []
  }
}

/** It goes with its descriptors; a client that cannot be given one is answered by the connection. */
function openWindow(): SharedMemory | undefined {
  const { SharedMemory } = memoryAddon()
  try {
    return new SharedMemory({ path: 'backdoors-relay', memfd: true, create: true, length: windowSlots * slotBytes })
  } catch {
    return undefined
  }
}

/** @returns what it begins with, until something is read into it */
function begin({ buffer }: SharedMemory): string {
  const beginning = randomBytes(16)
  new Uint8Array(buffer).set(beginning)
  return beginning.toString('hex')
}

/** A frame of a status and what follows it, copied once: a whole machine may go through here. */
function answerFrame(status: number, parts: readonly Uint8Array[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 1)
  const bytes = Buffer.allocUnsafe(4 + length)
  bytes.writeUInt32BE(length, 0)
  bytes[4] = status
  let at = 5
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return bytes
}

function describe(error: unknown): { code: string; message: string } {
  const { code, message } = asBackdoorsError(error, 'PROTOCOL_ERROR', 'The request was not understood')
  return { code, message }
}
