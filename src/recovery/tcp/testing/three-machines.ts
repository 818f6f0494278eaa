/** A client, a machine that dies and the one that goes on, in network namespaces with a bridge between them at the client's. */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readlinkSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { until } from '../../../../addon/test/native-fixture.js'
import { startTypescript } from '../../../region/testing/child.js'
import { clientProgram, listenerProgram, serverProgram } from './programs.js'
import type { WrittenConnection } from './written-connection.js'

const run = promisify(execFile)

export const virtual = { four: '10.9.0.50', six: 'fd09::50' } as const
const prefixes: Readonly<Record<string, string>> = { [virtual.four]: '10.9.0.50/24', [virtual.six]: 'fd09::50/64' }
export const port = 7480

type Holders = Readonly<Record<'client' | 'dying' | 'healthy', number>>
type Command = { readonly do: string } & Readonly<Record<string, unknown>>

/** A process that answers one line by one line. */
export class Answering {
  readonly process: ChildProcess
  readonly events: unknown[] = []
  readonly #waiting: ((told: unknown) => void)[] = []

  constructor(child: ChildProcess) {
    this.process = child
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
      const told = JSON.parse(line) as unknown
      const next = this.#waiting.shift()
      if (next) next(told)
      else this.events.push(told)
    })
    child.stderr?.on('data', (text: Buffer) => process.stderr.write(text))
    child.once('exit', () => this.#waiting.splice(0).forEach((each) => each({ error: 'the process has ended' })))
  }

  next(): Promise<unknown> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return Promise.resolve({ error: 'the process has ended' })
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  /** What it answers; an error is thrown with its text. */
  async ask<T = unknown>(command: Command): Promise<T> {
    const next = this.next()
    this.process.stdin?.write(`${JSON.stringify(command)}\n`)
    const told = (await next) as { answer?: T; error?: unknown }
    if (told.error !== undefined) throw new Error(typeof told.error === 'string' ? told.error : JSON.stringify(told.error))
    return told.answer as T
  }
}

export class ThreeMachines {
  readonly #processes: ChildProcess[] = []
  readonly #holders: Holders
  client!: Answering
  dying!: Answering
  healthy!: Answering
  listener!: Answering

  private constructor(holders: Holders, processes: ChildProcess[]) {
    this.#holders = holders
    this.#processes = processes
  }

  /**
   * @param sysctls of the client, e.g. `net.ipv4.tcp_timestamps=0`
   * @param without a capability that the healthy machine's process has not, e.g. `net_admin`
   */
  static async make(sysctls: readonly string[] = [], without?: string): Promise<ThreeMachines> {
    const processes: ChildProcess[] = []
    const hold = async (): Promise<number> => {
      const holder = spawn('unshare', ['-n', 'sleep', 'infinity'], { stdio: 'ignore' })
      processes.push(holder)
      await once(holder, 'spawn')
      const own = readlinkSync('/proc/self/ns/net')
      await until('a process is in a network namespace of its own', () => readlinkSync(`/proc/${holder.pid}/ns/net`) !== own)
      return holder.pid as number
    }
    const machines = new ThreeMachines({ client: await hold(), dying: await hold(), healthy: await hold() }, processes)
    await machines.#connect(sysctls)
    machines.listener = await machines.#start('client', 'python3', '-c', listenerProgram)
    machines.client = await machines.#start('client', 'python3', '-c', clientProgram)
    machines.dying = await machines.#start('dying', 'python3', '-c', serverProgram)
    const dropping = without === undefined ? [] : ['setpriv', `--bounding-set=-${without}`]
    const child = startTypescript('../../recovery/tcp/testing/healthy-process.ts', [], [], [...machines.#launcher('healthy'), ...dropping])
    processes.push(child.process)
    machines.healthy = new Answering(child.process)
    await machines.healthy.next()
    return machines
  }

  async in(machine: 'client' | 'dying' | 'healthy', ...command: string[]): Promise<string> {
    const [name, ...rest] = [...this.#launcher(machine), ...command]
    return (await run(name as string, rest)).stdout
  }

  /** Clients that are connected to the machine that will die. */
  async connect(address: string, count = 1, more: Readonly<Record<string, unknown>> = {}): Promise<void> {
    await this.dying.ask({ do: 'listen', address, port })
    await this.client.ask({ do: 'connect', address, port, count, ...more })
    await this.untilAsked('all are accepted', async () => (await this.dying.ask({ do: 'accepted' })) === count)
  }

  /** From here on nothing leaves the dying machine, and nothing reaches it. */
  async cut(): Promise<void> {
    await this.in('client', 'ip', 'link', 'set', 'to-dying', 'down')
  }

  /** What another machine finds in its memory. */
  die(): Promise<WrittenConnection[]> {
    return this.dying.ask({ do: 'die' })
  }

  async takeOver(connections: readonly WrittenConnection[], address: string): Promise<{ restored: number; refused: { reason: string }[] }> {
    const told = await this.healthy.ask<{ restored: number; refused: { reason: string }[] }>({ do: 'restore', connections })
    await this.healthy.ask({ do: 'take', address: prefixes[address] })
    await this.healthy.ask({ do: 'activate' })
    return told
  }

  async untilAsked(what: string, condition: () => Promise<boolean>): Promise<void> {
    let holds = false
    let asking: Promise<void> | undefined
    let failed: unknown
    await until(what, () => {
      asking ??= condition().then((now) => void ((holds = now), (asking = undefined)), (error: unknown) => void (failed = error))
      if (failed !== undefined) throw failed
      return holds
    })
  }

  /** Resets that reached the client's machine. */
  get resets(): unknown[] {
    return this.listener.events.filter((event) => Object.hasOwn(event as object, 'reset'))
  }

  get unreachables(): string[] {
    return this.listener.events.flatMap((event) => (event as { unreachable?: string }).unreachable ?? [])
  }

  async close(): Promise<void> {
    const running = this.#processes.filter((each) => each.exitCode === null && each.signalCode === null)
    const ended = running.map((each) => once(each, 'exit'))
    for (const each of running) each.kill('SIGKILL')
    await Promise.all(ended)
  }

  #launcher(machine: keyof Holders): string[] {
    return ['nsenter', '-t', String(this.#holders[machine]), '-n']
  }

  async #start(machine: keyof Holders, ...command: string[]): Promise<Answering> {
    const [name, ...rest] = [...this.#launcher(machine), ...command]
    const child = spawn(name as string, rest, { stdio: ['pipe', 'pipe', 'pipe'] })
    this.#processes.push(child)
    const answering = new Answering(child)
    await answering.next()
    return answering
  }

  async #connect(sysctls: readonly string[]): Promise<void> {
    const client = (...command: string[]): Promise<string> => this.in('client', 'ip', ...command)
    // Machines have had their addresses for long; a link-local one that is still being probed would ask for no neighbour.
    for (const machine of ['client', 'dying', 'healthy'] as const) await this.in(machine, 'sysctl', '-qw', 'net.ipv6.conf.default.accept_dad=0', 'net.ipv6.conf.all.accept_dad=0')
    await client('link', 'add', 'bridge', 'type', 'bridge')
    for (const [machine, own] of [['dying', '10.9.0.1'], ['healthy', '10.9.0.2']] as const) {
      await client('link', 'add', `to-${machine}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(this.#holders[machine]))
      await client('link', 'set', `to-${machine}`, 'master', 'bridge', 'up')
      await this.in(machine, 'ip', 'link', 'set', 'lo', 'up')
      await this.in(machine, 'ip', 'link', 'set', 'eth0', 'up')
      await this.in(machine, 'ip', 'address', 'add', `${own}/24`, 'dev', 'eth0')
      await this.in(machine, 'ip', 'address', 'add', `fd09::${own.at(-1) as string}/64`, 'dev', 'eth0', 'nodad')
    }
    await client('link', 'set', 'bridge', 'up')
    await client('address', 'add', '10.9.0.9/24', 'dev', 'bridge')
    await client('address', 'add', 'fd09::9/64', 'dev', 'bridge', 'nodad')
    for (const each of Object.values(prefixes)) await this.in('dying', 'ip', 'address', 'add', each, 'dev', 'eth0', ...(each.includes(':') ? ['nodad'] : []))
    for (const each of sysctls) await this.in('client', 'sysctl', '-qw', each)
  }
}
