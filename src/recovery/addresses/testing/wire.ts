/**
 * Two network namespaces and a wire between them: interface `near` in the one, where addresses are taken, and `far` in the
 * other, where a neighbour listens. They are gone when the processes are that hold them.
 */
import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readlinkSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { until } from '../../../../addon/test/native-fixture.js'

/**
 * Namespaces need root. Where the tests are run for a release (CI), they have to be there: then nothing is skipped, and what is
 * missing fails.
 */
export const canMakeNamespaces = process.getuid?.() === 0 && (process.env['CI'] !== undefined || spawnSync('unshare', ['-n', 'true']).status === 0)

export const nearHardware = '02:00:00:00:00:0a'
export const staleHardware = '02:00:00:00:00:66'

/** An independent listener: every frame that comes in, in hexadecimal, one a line. */
const listener = `
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind((sys.argv[1], 0))
print('listening', flush=True)
while True:
    frame, source = s.recvfrom(65536)
    if source[2] != socket.PACKET_OUTGOING: print(frame.hex(), flush=True)
`

export interface InterfaceState {
  readonly addr_info: readonly { readonly local: string; readonly prefixlen: number; readonly tentative?: boolean; readonly nodad?: boolean }[]
}

export class Wire {
  /** What came in at the far end, in hexadecimal. */
  readonly frames: string[] = []
  readonly #processes: ChildProcess[] = []
  #near = 0
  #far = 0

  private constructor() {}

  static async make(): Promise<Wire> {
    const wire = new Wire()
    wire.#near = await wire.#hold()
    wire.#far = await wire.#hold()
    execFileSync('ip', ['link', 'add', 'near', 'netns', String(wire.#near), 'type', 'veth', 'peer', 'name', 'far', 'netns', String(wire.#far)])
    wire.near('ip', 'link', 'set', 'near', 'address', nearHardware)
    wire.near('ip', 'link', 'set', 'near', 'up')
    wire.near('ip', 'address', 'add', '10.9.0.1/24', 'dev', 'near')
    wire.far('ip', 'link', 'set', 'far', 'up')
    wire.far('ip', 'address', 'add', '10.9.0.2/24', 'dev', 'far')
    wire.far('ip', 'address', 'add', 'fd09::2/64', 'dev', 'far', 'nodad')
    await wire.#listen()
    return wire
  }

  /** The command that runs another at the near end. */
  get launcher(): string[] {
    return ['nsenter', '-t', String(this.#near), '-n']
  }

  near(...command: string[]): string {
    return execFileSync('nsenter', ['-t', String(this.#near), '-n', ...command], { encoding: 'utf8' })
  }

  far(...command: string[]): string {
    return execFileSync('nsenter', ['-t', String(this.#far), '-n', ...command], { encoding: 'utf8' })
  }

  /** Addresses of the near interface with their prefix lengths, but for those that the kernel gave it. */
  addresses(): InterfaceState['addr_info'] {
    const [state] = JSON.parse(this.near('ip', '-j', 'address', 'show', 'dev', 'near')) as InterfaceState[]
    return state!.addr_info.filter(({ local }) => !local.startsWith('fe80:') && local !== '10.9.0.1')
  }

  texts(): string[] {
    return this.addresses().map(({ local, prefixlen }) => `${local}/${prefixlen}`)
  }

  /** Lets the far end remember an address at a machine that is no more. */
  remember(address: string): void {
    this.far('ip', 'neighbour', 'replace', address, 'lladdr', staleHardware, 'dev', 'far', 'nud', 'stale')
  }

  /** The hardware address at which the far end has it. */
  remembered(address: string): string | undefined {
    const [entry] = JSON.parse(this.far('ip', '-j', 'neighbour', 'show', 'to', address)) as { lladdr?: string }[]
    return entry?.lladdr
  }

  /** How often a frame has come in. */
  heard(frame: string): number {
    return this.frames.filter((each) => each === frame).length
  }

  async close(): Promise<void> {
    const ended = this.#processes.map((each) => (each.exitCode === null && each.signalCode === null ? once(each, 'exit') : undefined))
    for (const each of this.#processes) each.kill('SIGKILL')
    await Promise.all(ended)
  }

  /** A process that does nothing, in a namespace of its own. */
  async #hold(): Promise<number> {
    const holder = spawn('unshare', ['-n', 'sleep', 'infinity'], { stdio: 'ignore' })
    this.#processes.push(holder)
    await once(holder, 'spawn')
    const own = readlinkSync('/proc/self/ns/net')
    await until('a process is in a network namespace of its own', () => {
      if (holder.exitCode !== null) throw new Error('a network namespace could not be made')
      return readlinkSync(`/proc/${holder.pid}/ns/net`) !== own
    })
    return holder.pid!
  }

  async #listen(): Promise<void> {
    const child = spawn('nsenter', ['-t', String(this.#far), '-n', 'python3', '-c', listener, 'far'], { stdio: ['ignore', 'pipe', 'inherit'] })
    this.#processes.push(child)
    let listening = false
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (line === 'listening') listening = true
      else this.frames.push(line)
    })
    await until('the far end listens', () => {
      if (child.exitCode !== null) throw new Error('the far end could not listen')
      return listening
    })
  }
}
