/** The rig's end of the channel to the agent in one guest. */

import type { Socket } from 'node:net'
import type { Writable } from 'node:stream'
import type { AgentEvent, AgentRequest } from './agent-protocol.js'
import { deferred } from './deferred.js'
import { GuestGoneError } from './errors.js'
import { GuestProcess } from './guest-process.js'
import { readJsonLines, writeJsonLine } from './json-lines.js'

export interface SpawnOptions {
  /** Added to the guest's own environment. */
  readonly env?: Readonly<Record<string, string>>
  /** Defaults to the folder the rig was started in, which the guest sees under the same path. */
  readonly cwd?: string
}

export class AgentConnection {
  /** Settles when the guest's network and soft-RoCE are up, with the index of the IPv4 RoCE v2 GID. */
  readonly ready: Promise<number>

  private readonly readySettled = deferred<number>()
  private readonly processes = new Map<number, GuestProcess>()
  private lastId = 0
  private ended: Error | undefined

  constructor(
    private readonly guest: string,
    private readonly socket: Socket,
  ) {
    this.ready = this.readySettled.promise
    this.ready.catch(() => undefined) // the boot waits for several things at once
    readJsonLines(socket, (message) => {
      this.receive(message as AgentEvent)
    })
    socket.on('error', (error) => {
      this.end(new GuestGoneError(`guest ${guest}: ${error.message}`, { cause: error }))
    })
    socket.on('close', () => {
      this.end(new GuestGoneError(`guest ${guest} is gone`))
    })
  }

  /** Asks for a process; its `started` tells what came of it. A frozen guest starts it when it is thawed. */
  start(argv: readonly string[], options: SpawnOptions, transcript: Writable): GuestProcess {
    if (this.ended !== undefined) throw this.ended
    const id = ++this.lastId
    const send = (request: AgentRequest): void => {
      writeJsonLine(this.socket, request)
    }
    const child = new GuestProcess(`${this.guest}: ${argv.join(' ')}`, id, send, transcript)
    this.processes.set(id, child)
    send({ op: 'spawn', id, argv, env: options.env ?? {}, cwd: options.cwd ?? process.cwd() })
    return child
  }

  close(): void {
    this.socket.destroy()
  }

  private receive(event: AgentEvent): void {
    if (event.event === 'ready') {
      if (event.problem === undefined) this.readySettled.resolve(event.gidIndex)
      else this.readySettled.reject(new Error(event.problem))
      return
    }
    this.processes.get(event.id)?.receive(event)
    if (event.event === 'closed' || event.event === 'failed') this.processes.delete(event.id)
  }

  private end(error: Error): void {
    this.ended ??= error
    this.readySettled.reject(error)
    for (const child of this.processes.values()) child.abandon(error)
    this.processes.clear()
  }
}
