/**
 * The taps on a connection's socket: what comes passes here before the server gets it, what the server writes before the kernel does.
 *
 * The functions are the same for all sockets, and find the connection by the socket: with closures of its own, each socket would be an
 * object of another kind to the compiler. What is written in several pieces goes to the kernel in one, for the record has it so already.
 */
import type { Socket } from 'node:net'
import type { Callback, Chunk } from './chunks.js'
import { connectionOf } from './connection-of.js'
import type { Connection } from './connection.js'
import { broughtBytes, readIntoOneBuffer } from './one-buffer.js'
import { writeThroughGate } from './through-gate.js'

type Push = Socket['push']
type Write = Socket['_write']
type Writev = NonNullable<Socket['_writev']>

/** As they were before the taps. */
const pushKey = Symbol('backdoors.push')
const writeKey = Symbol('backdoors.write')
const writevKey = Symbol('backdoors.writev')

interface Tapped extends Socket {
  [pushKey]: Push
  [writeKey]: Write
  [writevKey]: Writev
}

/** Sees everything that comes and goes from now on. */
export function tapSocket(connection: Connection): void {
  const socket = connection.socket as Tapped
  // eslint-disable-next-line @typescript-eslint/unbound-method -- they are called on their socket
  const { push, _write, _writev } = socket
  socket[pushKey] = push
  socket[writeKey] = _write
  socket[writevKey] = _writev as Writev
  // All that is read passes here before any listener sees it, whatever the way in which it listens.
  socket.push = tappedPush
  socket._write = tappedWrite as Write
  socket._writev = tappedWritev
  readIntoOneBuffer(socket, tappedRead)
  socket.once('close', () => connection.end())
}

/** Gives bytes to the kernel past the taps. */
export function passToKernel({ socket }: Connection, bytes: Buffer, callback: Callback): void {
  ;(socket as Tapped)[writeKey](bytes, 'buffer' as BufferEncoding, callback)
}

const isOver = (): Error => new Error('this connection is over')
const of = (socket: Socket): Connection => connectionOf(socket) as Connection

function tappedPush(this: Socket, chunk: Buffer | null, encoding?: BufferEncoding): boolean {
  if (chunk !== null && !of(this).took(chunk)) return false
  return (this as Tapped)[pushKey](chunk, encoding)
}

function tappedRead(this: Socket, count: number): boolean {
  const connection = of(this)
  const bytes = broughtBytes(count)
  if (!connection.took(bytes)) return false
  // A parser reads a head at once and keeps nothing of it; whoever else gets bytes may keep them.
  if (!connection.isHeadAlone) return (this as Tapped)[pushKey](Buffer.from(bytes))
  this.emit('data', bytes)
  return true
}

/** A single chunk as a list; nobody keeps it. */
const single: [Chunk] = [{ chunk: '', encoding: 'latin1' }]

function tappedWrite(this: Socket, chunk: Buffer | string, encoding: BufferEncoding, callback: Callback): void {
  const connection = of(this)
  if (connection.isComparing) return writeThroughGate(connection, [{ chunk, encoding }], callback)
  single[0].chunk = chunk
  single[0].encoding = encoding
  const decided = connection.decide(single)
  single[0].chunk = ''
  if (decided === false) return callback(isOver())
  if (decided === true) return (this as Tapped)[writeKey](chunk, encoding, callback)
  ;(this as Tapped)[writeKey](decided, 'buffer' as BufferEncoding, callback)
  connection.handedOn(decided)
}

function tappedWritev(this: Socket, chunks: Chunk[], callback: Callback): void {
  const connection = of(this)
  if (connection.isComparing) return writeThroughGate(connection, chunks, callback)
  const decided = connection.decide(chunks)
  if (decided === false) return callback(isOver())
  if (decided === true) return (this as Tapped)[writevKey](chunks, callback)
  ;(this as Tapped)[writeKey](decided, 'buffer' as BufferEncoding, callback)
  connection.handedOn(decided)
}
