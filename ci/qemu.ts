/** QEMU's command line for a guest, and the QEMU process itself. */

import { spawn, type ChildProcess } from 'node:child_process'
import { readdir } from 'node:fs/promises'
import { constants, setPriority } from 'node:os'
import { requireTools } from './host-tools.js'

export type Accelerator = 'tcg' | 'kvm'

/** The RAM file of another guest. */
export interface HostRam {
  readonly path: string
  readonly mebibytes: number
}

export interface QemuOptions {
  readonly accelerator: Accelerator
  readonly kernelPath: string
  readonly initramfsPath: string
  /** Settings for the scripts in the initramfs; see {@link ./initramfs}. */
  readonly settings: Readonly<Record<string, string>>
  readonly memoryMiB: number
  /** Processors; 2 at most. */
  readonly cpus: number
  /** Its RAM is this file, shared with whoever maps it; by default it is QEMU's own. */
  readonly ramPath?: string
  /** Makes it a NIC machine: other guests' RAM files, as persistent memory modules of this guest. */
  readonly hostRams?: readonly HostRam[]
  /** The kernel's console goes to this file. */
  readonly consolePath: string
  /** Sockets on which the rig listens, and what the network card is called on the wire. */
  readonly link?: {
    readonly monitorSocket: string
    readonly agentSocket: string
    readonly networkSocket: string
    readonly macAddress: string
  }
}

/** Jumbo frames, as RoCE is run in practice: soft-RoCE puts 4 KiB into a packet then, and an emulated processor pays for each. */
const mtuBytes = 9000

/**
 * `-erms,-fsrm`: emulated `rep movsb` tears aligned 8-byte copies, and the kernel's memcpy, which soft-RoCE uses, takes it
 * where ERMS is offered. `-pku`: V8 uses protection keys where they are, and under emulation each switch from a process
 * that does costs a flush of the TLB, which makes a read in Node some five times slower. `-pclmulqdq`: QEMU reckons it, and the CRC
 * instruction, bit by bit; without it our CRC32C goes by tables, which takes a third of the time. `maxcpus=2`: a strictly single-CPU
 * guest drops barriers and locked operations.
 */
function machineArguments(options: QemuOptions): string[] {
  const [accelerator, without] = options.accelerator === 'tcg' ? ['tcg,thread=multi', '-erms,-fsrm,-pku,-pclmulqdq'] : ['kvm', '-erms,-fsrm,-pku']
  return [
    '-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none',
    '-accel', accelerator, '-cpu', `max,${without}`, '-smp', `${options.cpus},maxcpus=2`,
    ...memoryArguments(options),
    '-kernel', options.kernelPath, '-initrd', options.initramfsPath, '-append', kernelCommandLine(options.settings),
    '-chardev', `file,id=console,path=${escaped(options.consolePath)}`, '-serial', 'chardev:console',
  ]
}

function memoryArguments({ memoryMiB, ramPath, hostRams = [] }: QemuOptions): string[] {
  const own = ramPath === undefined ? [] : [...ramFile('ram', ramPath, memoryMiB), '-machine', 'memory-backend=ram']
  if (hostRams.length === 0) return ['-m', `${memoryMiB}M`, ...own]
  const modules = hostRams.flatMap(({ path, mebibytes }, i) => [...ramFile(`host${i}`, path, mebibytes), '-device', `nvdimm,memdev=host${i},id=host-ram${i}`])
  const mostMiB = hostRams.reduce((sum, { mebibytes }) => sum + mebibytes, memoryMiB + 1024)
  return ['-machine', 'nvdimm=on', '-m', `${memoryMiB}M,slots=${hostRams.length + 1},maxmem=${mostMiB}M`, ...own, ...modules]
}

const ramFile = (id: string, path: string, mebibytes: number): string[] => ['-object', `memory-backend-file,id=${id},size=${mebibytes}M,mem-path=${escaped(path)},share=on`]

function linkArguments({ monitorSocket, agentSocket, networkSocket, macAddress }: NonNullable<QemuOptions['link']>): string[] {
  return [
    '-chardev', `socket,id=monitor,path=${escaped(monitorSocket)}`, '-mon', 'chardev=monitor,mode=control',
    '-device', 'virtio-serial-pci', '-chardev', `socket,id=agent,path=${escaped(agentSocket)}`,
    '-device', 'virtserialport,chardev=agent,name=backdoors.agent',
    '-netdev', `stream,id=network,server=off,addr.type=unix,addr.path=${escaped(networkSocket)}`,
    '-device', `virtio-net-pci,netdev=network,mac=${macAddress},host_mtu=${String(mtuBytes)},rx_queue_size=1024,romfile=`,
    '-virtfs', 'local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap',
  ]
}

/** `panic=-1`: a kernel that panics on its way up ends QEMU at once. Once it is up, the second script sets 0. */
function kernelCommandLine(settings: Readonly<Record<string, string>>): string {
  const words = Object.entries(settings).map(([key, value]) => `rig.${key}=${percentEncoded(value)}`)
  return ['console=ttyS0', 'loglevel=5', 'panic=-1', 'tsc=reliable', 'no_timer_check', 'cryptomgr.notests', ...words].join(' ')
}

/** Only ASCII letters, digits and a few marks stay, so that neither the kernel nor a shell sees anything special. */
function percentEncoded(value: string): string {
  const asIs = /[A-Za-z0-9_./:-]/
  return [...Buffer.from(value)]
    .map((byte) => (asIs.test(String.fromCharCode(byte)) ? String.fromCharCode(byte) : `%${byte.toString(16).padStart(2, '0')}`))
    .join('')
}

/** In QEMU's option lists a comma within a value is written twice. */
function escaped(value: string): string {
  return value.replaceAll(',', ',,')
}

/** How QEMU ended, and what it said about it. */
export interface QemuExit {
  readonly reason: string
}

export class QemuProcess {
  private constructor(
    private readonly child: ChildProcess,
    readonly exited: Promise<QemuExit>,
  ) {}

  /**
   * `setpriv` has the kernel kill QEMU when the rig dies, however that comes about. QEMU gets a session of its own, so that
   * a Ctrl-C at the terminal reaches only the rig, which then ends everything in order.
   */
  static async start(options: QemuOptions): Promise<QemuProcess> {
    const tools = await requireTools(['qemu-system-x86_64', 'setpriv'])
    const args = [...machineArguments(options), ...(options.link === undefined ? [] : linkArguments(options.link))]
    const child = spawn(tools.setpriv, ['--pdeathsig', 'KILL', tools['qemu-system-x86_64'], ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
      detached: true,
    })
    let complaints = ''
    child.stderr.on('data', (chunk: Buffer) => (complaints += chunk.toString()))
    const exited = new Promise<QemuExit>((resolve) => {
      child.on('error', (error) => {
        resolve({ reason: error.message })
      })
      child.on('close', (code, signal) => {
        resolve({ reason: `QEMU ended with ${code ?? signal}${complaints === '' ? '' : `: ${complaints.trim()}`}` })
      })
    })
    return new QemuProcess(child, exited)
  }

  /** Everything else on this machine goes before it from now on: a processor that spins for ever keeps nobody waiting. */
  async yieldToOthers(): Promise<void> {
    const threads = await readdir(`/proc/${this.child.pid}/task`).catch(() => [])
    for (const thread of threads) setPriority(Number(thread), constants.priority.PRIORITY_LOW)
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL')
    await this.exited
  }
}
