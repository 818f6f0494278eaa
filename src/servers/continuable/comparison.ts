/**
 * The time in which a response is made anew and compared with what the client has of it: nothing of it reaches the client, so it must come
 * to an end whatever the server does.
 *
 * A server that says nothing for too long, or ends the connection, ends it by a reset: an orderly end is what a client may take for the end
 * of its answer.
 */
import type { Socket } from 'node:net'
import type { ResetReason } from '../../recovery/tcp/connection.js'

export interface ComparedConnection {
  readonly socket: Socket
  /** Called with whatever the server sends. */
  readonly gate: { onBytes: () => void }
  /** How long the server may say nothing, in milliseconds. */
  readonly silenceMs: number
  /** @param done is to be called when it is known whether all is the same */
  readonly begin: (done: (same: boolean) => void) => void
}

/** @returns why it is reset; undefined where all was the same, or where the client has ended it: then nobody is left whom a difference could harm */
export function untilCompared({ socket, gate, silenceMs, begin }: ComparedConnection): Promise<ResetReason | undefined> {
  const { promise, resolve } = promiseOf<ResetReason | undefined>()
  let isOver = false
  const settle = (reason: ResetReason | undefined): void => {
    isOver = true
    clearTimeout(timer)
    resolve(reason)
  }
  const timer = setTimeout(() => settle('replay-silent'), silenceMs).unref()
  gate.onBytes = () => void (isOver || timer.refresh())
  const final = socket._final.bind(socket)
  const destroy = socket.destroy.bind(socket)
  socket._final = (callback) => {
    if (isOver) return final(callback)
    settle(socket.readableEnded ? undefined : 'output-differs')
    socket.resetAndDestroy()
  }
  socket.destroy = (error) => {
    if (isOver) return destroy(error)
    if (isOfTheNetwork(error)) {
      settle(undefined)
      return destroy(error)
    }
    settle('output-differs')
    return socket.resetAndDestroy()
  }
  socket.once('close', () => settle(undefined))
  begin((same) => settle(same ? undefined : 'output-differs'))
  return promise
}

/** The client has reset it, say: an error of a system call, and not one of the server's own. */
const isOfTheNetwork = (error: (Error & { syscall?: string }) | undefined): boolean => error?.syscall === 'read' || error?.syscall === 'write'

function promiseOf<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined
  return { promise: new Promise<T>((settle) => (resolve = settle)), resolve: (value) => resolve(value) }
}
