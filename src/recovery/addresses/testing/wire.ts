/**
 * Two network namespaces and a wire between them: interface `near` in the one, where addresses are taken, and `far` in the
 * other, where a neighbour listens. They are gone when the processes are that hold them.
 */
import { execFile, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readlinkSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { setTimeout as sleepMs } from 'node:timers/promises'
import { promisify } from 'node:util'
import { patienceMs, until } from '../../../../addon/test/native-fixture.js'

// Nodes that a test plays beat by timers of its event loop: nothing here may hold it up.
const run = promisify(execFile)

/**
 * Namespaces need root. Where the tests are run for a release (CI), they have to be there: then nothing is skipped, and what is
 * missing fails.
 */
export const canMakeNamespaces = process.getuid?.() === 0 && (process.env['CI'] !== undefined || spawnSync('unshare', ['-n', 'ip', '-V']).status === 0)

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
    await run('ip', ['link', 'add', 'near', 'netns', String(wire.#near), 'type', 'veth', 'peer', 'name', 'far', 'netns', String(wire.#far)])
    await wire.near('ip', 'link', 'set', 'near', 'address', nearHardware)
    await wire.near('ip', 'link', 'set', 'near', 'up')
    await wire.near('ip', 'address', 'add', '10.9.0.1/24', 'dev', 'near')
    await wire.far('ip', 'link', 'set', 'far', 'up')
    await wire.far('ip', 'address', 'add', '10.9.0.2/24', 'dev', 'far')
    await wire.far('ip', 'address', 'add', 'fd09::2/64', 'dev', 'far', 'nodad')
    await wire.#listen()
    return wire
  }

  /** The command that runs another at the near end. */
  get launcher(): string[] {
    return ['nsenter', '-t', String(this.#near), '-n']
  }

  async near(...command: string[]): Promise<string> {
    return (await run('nsenter', ['-t', String(this.#near), '-n', ...command])).stdout
  }

  async far(...command: string[]): Promise<string> {
    return (await run('nsenter', ['-t', String(this.#far), '-n', ...command])).stdout
  }

  /** Addresses of the near interface with their prefix lengths, but for those that the kernel gave it. */
  async addresses(): Promise<InterfaceState['addr_info']> {
    const [state] = JSON.parse(await this.near('ip', '-j', 'address', 'show', 'dev', 'near')) as InterfaceState[]
    return state!.addr_info.filter(({ local }) => !local.startsWith('fe80:') && local !== '10.9.0.1')
  }

  async texts(): Promise<string[]> {
    return (await this.addresses()).map(({ local, prefixlen }) => `${local}/${prefixlen}`)
  }

  /** Lets the far end remember an address at a machine that is no more. */
  async remember(address: string): Promise<void> {
    await this.far('ip', 'neighbour', 'replace', address, 'lladdr', staleHardware, 'dev', 'far', 'nud', 'stale')
  }

  /** The hardware address at which the far end has it. */
  async remembered(address: string): Promise<string | undefined> {
    const [entry] = JSON.parse(await this.far('ip', '-j', 'neighbour', 'show', 'to', address)) as { lladdr?: string }[]
    return entry?.lladdr
  }

  /** Waits until the near interface has these addresses; fails the test where it never does. */
  async untilTexts(...texts: string[]): Promise<void> {
    await this.untilEnds(`the interface has ${texts.join(' and ') || 'no address'}`, async () => (await this.texts()).join() === texts.join())
  }

  /** Waits for what will come, as either end sees it. */
  async untilEnds(what: string, condition: () => Promise<boolean>): Promise<void> {
    const untilMs = performance.now() + patienceMs
    while (!(await condition())) {
      if (performance.now() > untilMs) throw new Error(`waited ${String(patienceMs)} ms in vain: ${what}`)
      await sleepMs(1)
    }
  }

  /** How often a frame has come in. */
  heard(frame: string): number {
    return this.frames.filter((each) => each === frame).length
  }

  async close(): Promise<void> {
    const ended = this.#processes.filter((each) => each.exitCode === null && each.signalCode === null).map((each) => once(each, 'exit'))
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
