/**
 * A guest: a Debian kernel under QEMU whose root is the host's (read-only, what it writes stays in its RAM), with
 * soft-RoCE on a network of the rig's own.
 */

import { createWriteStream } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { stripVTControlCharacters } from 'node:util'
import { AgentConnection, type SpawnOptions } from './agent-connection.js'
import { deferred } from './deferred.js'
import { GuestBootError, messageOf } from './errors.js'
import type { CommandResult, GuestProcess } from './guest-process.js'
import { requireTools } from './host-tools.js'
import { QemuProcess, type Accelerator, type HostRam, type QemuOptions } from './qemu.js'
import { Qmp } from './qmp.js'
import type { EthernetSwitch } from './switch.js'

export interface GuestOptions {
  /** Host name, and the name of its port on the switch. */
  readonly name: string
  /** 1 to 254: the last byte of its IP and MAC addresses. */
  readonly number: number
  /** Defaults to 512. */
  readonly memoryMiB?: number
  /** 1 or 2; defaults to 1. */
  readonly cpus?: number
  /** Its RAM is this file, so that a NIC machine, or the rig, can read it; the file's owner removes it. */
  readonly ramPath?: string
  /** Boots the kernel as it is shipped, at a random address; it takes some seconds longer. */
  readonly kaslr?: boolean
  /** The RAM files of the guests that this one is the NIC machine of. */
  readonly hostRams?: readonly HostRam[]
  /** How long it may take until its agent answers; defaults to 120 s, for slow machines under load. */
  readonly bootTimeoutMs?: number
}

/** What all guests of one run share. */
export interface GuestHost {
  readonly accelerator: Accelerator
  readonly kernelPath: string
  /** Of guests with `kaslr`. */
  readonly compressedKernelPath: string
  readonly initramfsPath: string
  /** Consoles and transcripts are kept here. */
  readonly runPath: string
  /** A short path for sockets, which may not be longer than 107 bytes. */
  readonly socketsPath: string
  readonly network: EthernetSwitch
}

export interface ExecOptions extends SpawnOptions {
  /** Defaults to 60 s. */
  readonly timeoutMs?: number
  /** Given to the command as its standard input. */
  readonly input?: Uint8Array | string
}

/** Of a guest whose options say nothing else. */
const defaultMemoryMiB = 512

/** A string is run by `sh -c`; a list is run as it is, so that its pid is the program's own. */
export type Command = string | readonly string[]

/** From asking for a process to its start; a guest that is frozen, or dead, starts none. */
const startTimeoutMs = 30_000

const agentPath = fileURLToPath(new URL('./guest-agent.js', import.meta.url))

export class Guest {
  /** Index of the RoCE v2 GID of its IPv4 address on `rxe0`. */
  readonly gidIndex: number
  readonly bootMs: number
  private commandCount = 0

  private constructor(
    readonly name: string,
    readonly ip: string,
    private readonly host: GuestHost,
    private readonly parts: { qemu: QemuProcess; qmp: Qmp; agent: AgentConnection },
    boot: { gidIndex: number; bootMs: number },
  ) {
    this.gidIndex = boot.gidIndex
    this.bootMs = boot.bootMs
  }

  /**
   * @throws GuestBootError when no agent answers in time, with the end of the console. Nothing is left running then, nor
   * when `signal` aborts.
   */
  static async boot(host: GuestHost, options: GuestOptions, signal: AbortSignal): Promise<Guest> {
    const startedAt = performance.now()
    const ip = `10.99.0.${options.number}`
    const socketPath = (kind: string) => join(host.socketsPath, `${options.name}.${kind}`)
    const link = {
      monitorSocket: socketPath('monitor'),
      agentSocket: socketPath('agent'),
      networkSocket: socketPath('network'),
      macAddress: `52:54:00:99:00:${options.number.toString(16).padStart(2, '0')}`,
    }
    await host.network.addPort(options.name, link.networkSocket)
    const connections = Promise.all([acceptOne(link.monitorSocket, signal), acceptOne(link.agentSocket, signal)])
    connections.catch(() => undefined) // abandoned when QEMU cannot be started
    const { rdma } = await requireTools(['rdma'])
    const consolePath = join(host.runPath, `${options.name}.console.log`)
    const settings = { name: options.name, address: ip, node: process.execPath, agent: agentPath, rdma, nic: options.hostRams === undefined ? '0' : '1' }
    const qemu = await QemuProcess.start({ ...host, ...(options.kaslr ? { kernelPath: host.compressedKernelPath } : {}), link, settings, consolePath, ...machineOf(options) })
    try {
      const ended = qemu.exited.then(({ reason }) => Promise.reject(new Error(reason)))
      const patience = AbortSignal.timeout(options.bootTimeoutMs ?? 120_000)
      const given = Promise.race([ended, rejection(patience, 'no answer from its agent in time'), rejection(signal, 'given up')])
      const [monitor, port] = await Promise.race([connections, given])
      const parts = { qemu, qmp: new Qmp(monitor), agent: new AgentConnection(options.name, port) }
      const gidIndex = await Promise.race([parts.agent.ready, given])
      return new Guest(options.name, ip, host, parts, { gidIndex, bootMs: performance.now() - startedAt })
    } catch (error) {
      await qemu.kill()
      throw new GuestBootError(options.name, messageOf(error), await tailOf(consolePath))
    }
  }

  /** Starts a process and returns as soon as it runs. Its output also goes to a file of its own in the run's folder. */
  async spawn(command: Command, options: SpawnOptions = {}): Promise<GuestProcess> {
    const child = this.start(command, options)
    await child.within(startTimeoutMs, child.started)
    return child
  }

  /**
   * Runs a command to its end, whatever its exit code.
   * @throws GuestCommandError when it cannot be started or takes longer than `timeoutMs`; GuestGoneError when QEMU ends.
   */
  async exec(command: Command, options: ExecOptions = {}): Promise<CommandResult> {
    return this.feed(command, options).result(options.timeoutMs ?? 60_000)
  }

  /** Like {@link exec}, but returns the standard output and throws GuestCommandError when the exit code is not 0. */
  async check(command: Command, options: ExecOptions = {}): Promise<string> {
    const child = this.feed(command, options)
    const { code, signal, stdout } = await child.result(options.timeoutMs ?? 60_000)
    if (code !== 0) throw child.failure(`ended with ${code ?? signal}`)
    return stdout
  }

  /** Writes a file in the guest only (its folder is made); the host's files stay as they are. */
  async putFile(path: string, content: Uint8Array | string): Promise<void> {
    await this.check(['/bin/sh', '-c', 'mkdir -p "$(dirname "$1")" && cat > "$1"', 'sh', path], { input: content })
  }

  async getFile(path: string): Promise<Buffer> {
    const child = this.feed(['cat', path], {})
    const { code } = await child.result(60_000)
    if (code !== 0) throw child.failure(`ended with ${code}`)
    return child.output('stdout')
  }

  /** What its kernel has said on its console so far. */
  async console(): Promise<string> {
    return stripVTControlCharacters(await readFile(join(this.host.runPath, `${this.name}.console.log`), 'utf8')).replaceAll('\r', '')
  }

  /** Stops the whole machine between two instructions, its soft-RoCE with it. Time stands still in it. */
  async freeze(): Promise<void> {
    await this.parts.qmp.execute('stop')
  }

  async thaw(): Promise<void> {
    await this.parts.qmp.execute('cont')
  }

  /** For a guest whose processors are about to spin: one machine emulates them all, which real machines' processors need not share. */
  async yieldToOthers(): Promise<void> {
    await this.parts.qemu.yieldToOthers()
  }

  /** Pulls the plug. Safe to call twice. */
  async close(): Promise<void> {
    this.parts.agent.close()
    this.parts.qmp.close()
    await this.parts.qemu.kill()
    await this.host.network.removePort(this.name)
  }

  private start(command: Command, options: SpawnOptions): GuestProcess {
    const argv = typeof command === 'string' ? ['/bin/sh', '-c', command] : command
    const program = basename((typeof command === 'string' ? command.split(' ')[0] : command[0]) ?? '').replace(/[^\w.-]/g, '')
    const file = `${this.name}.${String(++this.commandCount).padStart(2, '0')}-${program}.log`
    return this.parts.agent.start(argv, options, createWriteStream(join(this.host.runPath, file)))
  }

  private feed(command: Command, options: ExecOptions): GuestProcess {
    const child = this.start(command, options)
    if (options.input !== undefined) child.write(options.input)
    child.endInput()
    return child
  }
}

function machineOf({ memoryMiB = defaultMemoryMiB, cpus = 1, ramPath, hostRams }: GuestOptions): Pick<QemuOptions, 'memoryMiB' | 'cpus' | 'ramPath' | 'hostRams'> {
  return { memoryMiB, cpus, ...(ramPath === undefined ? {} : { ramPath }), ...(hostRams === undefined ? {} : { hostRams }) }
}

/** The rig listens and QEMU connects, so there is nothing to poll for and no byte of the guest's is lost. */
function acceptOne(path: string, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => {
      server.close()
      resolve(socket)
    })
    server.on('error', reject)
    server.listen({ path, signal })
  })
}

function rejection(signal: AbortSignal, reason: string): Promise<never> {
  const { promise, reject } = deferred<never>()
  const fail = () => {
    reject(new Error(reason, { cause: signal.reason }))
  }
  if (signal.aborted) fail()
  else signal.addEventListener('abort', fail, { once: true })
  promise.catch(() => undefined)
  return promise
}

async function tailOf(path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch(() => '(no console)')
  return stripVTControlCharacters(text).replaceAll('\r', '').trimEnd().split('\n').slice(-25).join('\n')
}
