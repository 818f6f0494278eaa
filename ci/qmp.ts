/** The few words of QEMU's machine protocol (QMP) that the rig says: stop, cont, quit. */

import type { Socket } from 'node:net'
import { GuestGoneError, RigError } from './errors.js'
import { readJsonLines, writeJsonLine } from './json-lines.js'

interface Reply {
  readonly return?: unknown
  readonly error?: { readonly class: string; readonly desc: string }
}

interface Waiter {
  readonly command: string
  resolve(value: unknown): void
  reject(error: Error): void
}

/** One monitor connection. QEMU answers in order, so a queue of waiters is all the bookkeeping there is. */
export class Qmp {
  private readonly waiting: Waiter[] = []
  private ended = false

  constructor(private readonly socket: Socket) {
    readJsonLines(socket, (message) => {
      this.receive(message as Reply)
    })
    socket.on('error', () => undefined) // 'close' follows and says it all
    socket.on('close', () => {
      this.ended = true
      for (const waiter of this.waiting.splice(0)) waiter.reject(new GuestGoneError(`QEMU ended during ${waiter.command}`))
    })
    this.execute('qmp_capabilities').catch(() => undefined)
  }

  execute(command: string): Promise<unknown> {
    if (this.ended) return Promise.reject(new GuestGoneError(`QEMU has ended; cannot ${command}`))
    return new Promise((resolve, reject) => {
      this.waiting.push({ command, resolve, reject })
      writeJsonLine(this.socket, { execute: command })
    })
  }

  close(): void {
    this.socket.destroy()
  }

  /** Greeting and events carry neither `return` nor `error`; nobody asked for them. */
  private receive(reply: Reply): void {
    if (reply.return === undefined && reply.error === undefined) return
    const waiter = this.waiting.shift()
    if (reply.error === undefined) waiter?.resolve(reply.return)
    else waiter?.reject(new RigError(`QEMU refused ${waiter.command}: ${reply.error.desc}`))
  }
}
