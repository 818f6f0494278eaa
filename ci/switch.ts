/**
 * A learning Ethernet switch in the rig's own process. Each guest's QEMU connects to a unix socket of its own
 * (`-netdev stream`), so guests have a network that needs no root and cannot reach the outside. As every frame passes
 * here, here is the place to cut links, and to drop and delay frames.
 *
 * Wire format (QEMU net/stream.c): a frame's length as 4 bytes, big-endian, then the frame.
 */

import { EventEmitter } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'
import { RigError } from './errors.js'
import { FrameParser, headerBytes } from './switch-frames.js'

/** Beyond this a port's queue is full, as on a real switch: further frames are dropped. A frozen guest reads nothing. */
const queueLimitBytes = 8 << 20

/** What to do to frames on their way from one port to another. */
export interface Impairment {
  /** Held back for so long. */
  readonly delayMs?: number
  /** True for a frame that is to vanish. The frame starts with the destination's MAC address. */
  readonly drop?: (frame: Buffer) => boolean
}

export interface PortCounters {
  receivedFrames: number
  sentFrames: number
  droppedFrames: number
}

interface Port {
  readonly name: string
  readonly server: Server
  readonly counters: PortCounters
  socket: Socket | undefined
}

interface SwitchEvents {
  /** A port broke the wire format, or its socket failed; it has been closed. The others go on. */
  portError: [port: string, error: Error]
}

export class EthernetSwitch extends EventEmitter<SwitchEvents> {
  private readonly ports = new Map<string, Port>()
  /** MAC address → the port behind which it was last seen. */
  private readonly learned = new Map<string, Port>()
  private readonly cutLinks = new Set<string>()
  private readonly impairments = new Map<string, Impairment>()
  private readonly timers = new Set<NodeJS.Timeout>()
  /** Sees every frame that comes in, before anything is done to it. */
  observer: ((from: string, frame: Buffer) => void) | undefined

  /** Opens a port that listens on the unix socket `path`, for one guest at a time. */
  async addPort(name: string, path: string): Promise<void> {
    if (this.ports.has(name)) throw new RigError(`the switch already has a port ${name}`)
    const counters = { receivedFrames: 0, sentFrames: 0, droppedFrames: 0 }
    const port: Port = { name, server: createServer(), counters, socket: undefined }
    this.ports.set(name, port)
    port.server.on('connection', (socket) => {
      this.attach(port, socket)
    })
    await new Promise<void>((resolve, reject) => {
      port.server.once('error', reject)
      port.server.listen(path, resolve)
    })
  }

  /** Ends a port whose guest is gone, so that another guest can have its name. Does nothing where there is none. */
  async removePort(name: string): Promise<void> {
    const port = this.ports.get(name)
    if (port === undefined) return
    this.ports.delete(name)
    for (const [address, behind] of this.learned) if (behind === port) this.learned.delete(address)
    port.socket?.destroy()
    await new Promise((resolve) => port.server.close(resolve))
  }

  /** No frame passes between `a` and `b`, either way, until {@link heal}. */
  cut(a: string, b: string): void {
    this.cutLinks.add(this.link(a, b)).add(this.link(b, a))
  }

  heal(a: string, b: string): void {
    this.cutLinks.delete(this.link(a, b))
    this.cutLinks.delete(this.link(b, a))
  }

  /** Impairs frames from `from` to `to` (one way); undefined ends it. */
  impair(from: string, to: string, impairment: Impairment | undefined): void {
    const link = this.link(from, to)
    if (impairment === undefined) this.impairments.delete(link)
    else this.impairments.set(link, impairment)
  }

  counters(name: string): Readonly<PortCounters> {
    return { ...this.port(name).counters }
  }

  /** Ends all connections. Safe to call twice. */
  close(): void {
    for (const timer of this.timers) clearTimeout(timer)
    this.timers.clear()
    for (const port of this.ports.values()) {
      port.socket?.destroy()
      port.server.close()
    }
    this.ports.clear()
    this.learned.clear()
  }

  private port(name: string): Port {
    const port = this.ports.get(name)
    if (port === undefined) throw new RigError(`the switch has no port ${name}`)
    return port
  }

  private link(from: string, to: string): string {
    return `${this.port(from).name} > ${this.port(to).name}`
  }

  private attach(port: Port, socket: Socket): void {
    if (port.socket !== undefined) {
      socket.destroy()
      return
    }
    port.socket = socket
    const parser = new FrameParser()
    socket.on('data', (chunk: Buffer) => {
      try {
        this.forwardAll(port, parser.push(chunk))
      } catch (error) {
        socket.destroy(error as Error)
      }
    })
    socket.on('error', (error) => this.emit('portError', port.name, error))
    socket.on('close', () => {
      if (port.socket === socket) port.socket = undefined
    })
  }

  /** Frames that came together leave together: one system call per destination instead of one per frame. */
  private forwardAll(from: Port, messages: readonly Buffer[]): void {
    if (messages.length > 1) for (const port of this.ports.values()) port.socket?.cork()
    for (const message of messages) this.forward(from, message)
    if (messages.length > 1) for (const port of this.ports.values()) port.socket?.uncork()
  }

  private forward(from: Port, message: Buffer): void {
    from.counters.receivedFrames += 1
    this.observer?.(from.name, message.subarray(headerBytes))
    const destination = message.toString('latin1', headerBytes, headerBytes + 6)
    this.learned.set(message.toString('latin1', headerBytes + 6, headerBytes + 12), from)
    const isGroupAddress = (message.readUInt8(headerBytes) & 1) === 1
    const known = isGroupAddress ? undefined : this.learned.get(destination)
    for (const to of known === undefined ? this.ports.values() : [known]) {
      if (to !== from) this.pass(from, to, message)
    }
  }

  private pass(from: Port, to: Port, message: Buffer): void {
    const link = `${from.name} > ${to.name}`
    const impairment = this.impairments.get(link)
    if (this.cutLinks.has(link) || impairment?.drop?.(message.subarray(headerBytes)) === true) {
      to.counters.droppedFrames += 1
    } else if (impairment?.delayMs !== undefined) {
      const timer = setTimeout(() => {
        this.timers.delete(timer)
        this.deliver(to, message)
      }, impairment.delayMs)
      this.timers.add(timer)
    } else {
      this.deliver(to, message)
    }
  }

  private deliver(to: Port, message: Buffer): void {
    if (to.socket === undefined || to.socket.writableLength > queueLimitBytes) {
      to.counters.droppedFrames += 1
      return
    }
    to.counters.sentFrames += 1
    to.socket.write(message)
  }
}
