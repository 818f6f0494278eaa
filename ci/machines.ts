/** The guests of one run with their switch, and the promise that nothing of them is left afterwards. */

import { setMaxListeners } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { chooseAccelerator, type AcceleratorChoice } from './accelerator.js'
import { Guest, type GuestHost, type GuestOptions } from './guest.js'
import { requireTools } from './host-tools.js'
import { buildInitramfs } from './initramfs.js'
import { obtainKernel } from './kernel.js'
import { EthernetSwitch } from './switch.js'

export interface MachinesOptions {
  readonly accelerator: AcceleratorChoice
  /** Aborts at the deadline and when the run is interrupted; its reason is what the run then fails with. */
  readonly signal: AbortSignal
  readonly log: (line: string) => void
}

export class Machines {
  private readonly booting: Promise<Guest>[] = []
  private readonly closing = new AbortController()
  private readonly ramFiles = new Set<string>()
  private count = 0

  private constructor(
    private readonly host: GuestHost,
    private readonly options: MachinesOptions,
  ) {}

  /** Gets the kernel, builds the initramfs and decides on the accelerator; boots nothing yet. */
  static async prepare(options: MachinesOptions, runPath: string, socketsPath: string): Promise<Machines> {
    await requireTools(['qemu-system-x86_64', 'busybox', 'setpriv', 'rdma']) // all that is missing, in one message
    const kernel = await obtainKernel(options.log)
    const initramfsPath = join(runPath, 'initramfs')
    await writeFile(initramfsPath, await buildInitramfs(kernel))
    const files = { kernelPath: kernel.imagePath, compressedKernelPath: kernel.compressedPath, initramfsPath, runPath }
    const accelerator = await chooseAccelerator(options.accelerator, files, options.log)
    const network = new EthernetSwitch()
    network.on('portError', (port, error) => {
      options.log(`switch: port ${port} closed: ${error.message}`)
    })
    return new Machines({ ...files, accelerator, socketsPath, network }, options)
  }

  get accelerator(): string {
    return this.host.accelerator
  }

  /** Consoles of the guests and transcripts of what ran in them; kept. */
  get runPath(): string {
    return this.host.runPath
  }

  get network(): EthernetSwitch {
    return this.host.network
  }

  /** Boots guests of these names side by side. Numbers, and so addresses, go up from 10.99.0.1 in the order given. */
  async boot<const Names extends readonly string[]>(
    names: Names,
    options: Omit<GuestOptions, 'name' | 'number'> = {},
  ): Promise<{ [Index in keyof Names]: Guest }> {
    const signal = AbortSignal.any([this.options.signal, this.closing.signal])
    // Each guest that boots listens to it several times.
    setMaxListeners(0, signal)
    const booting = names.map(async (name) => {
      const guest = await Guest.boot(this.host, { ...options, name, number: ++this.count }, signal)
      this.options.log(`guest ${name} (${guest.ip}) booted in ${(guest.bootMs / 1000).toFixed(1)} s`)
      return guest
    })
    this.booting.push(...booting)
    const settled = await Promise.allSettled(booting)
    const failure = settled.find((result) => result.status === 'rejected')
    if (failure !== undefined) throw failure.reason
    return (await Promise.all(booting)) as { [Index in keyof Names]: Guest }
  }

  /** In memory, as RAM ought to be; gone when the machines are. */
  ramFile(name: string): string {
    const path = join('/dev/shm', `${basename(this.runPath)}-${name}.ram`)
    this.ramFiles.add(path)
    return path
  }

  /** Ends all guests, those that are still booting too, and returns when no QEMU is left. */
  async close(): Promise<void> {
    this.closing.abort()
    const ends = this.booting.map((booting) => booting.then((guest) => guest.close()))
    await Promise.allSettled(ends)
    for (const path of this.ramFiles) await rm(path, { force: true })
    this.host.network.close()
  }
}

/**
 * Runs `body` with machines that end with it, however it ends: by returning, throwing, or the signal's abort (at which it
 * fails with the signal's reason at once, whatever `body` is waiting for).
 */
export async function withMachines<T>(options: MachinesOptions, body: (machines: Machines) => Promise<T>): Promise<T> {
  const runPath = await mkdtemp(join(tmpdir(), 'backdoors-rig-'))
  const socketsPath = join(runPath, 's')
  await mkdir(socketsPath)
  options.log(`logs: ${runPath}`)
  let machines: Machines | undefined
  try {
    machines = await untilAborted(Machines.prepare(options, runPath, socketsPath), options.signal)
    return await untilAborted(body(machines), options.signal)
  } finally {
    await machines?.close()
    await rm(socketsPath, { recursive: true, force: true })
    await rm(join(runPath, 'initramfs'), { force: true })
  }
}

async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  let abort: (() => void) | undefined
  const aborted = new Promise<never>((_resolve, reject) => {
    abort = () => {
      reject(signal.reason as Error)
    }
    if (signal.aborted) abort()
    else signal.addEventListener('abort', abort, { once: true })
  })
  try {
    return await Promise.race([work, aborted])
  } finally {
    if (abort !== undefined) signal.removeEventListener('abort', abort)
  }
}
