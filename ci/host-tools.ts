/** Programs of the host that the rig runs, and the Debian packages they come from. */

import { execFile } from 'node:child_process'
import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import { PrerequisiteError } from './errors.js'

const execFileAsync = promisify(execFile)

/** Tools that live in the sbin folders are often missing from an ordinary user's PATH, though anybody may run them. */
const searchPath = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin']

const packageOf = {
  'qemu-system-x86_64': 'qemu-system-x86',
  busybox: 'busybox-static',
  depmod: 'kmod',
  setpriv: 'util-linux',
  rdma: 'iproute2',
  'apt-cache': 'apt',
  'apt-get': 'apt',
  dpkg: 'dpkg',
  xz: 'xz-utils',
  ib_read_lat: 'perftest',
  ib_read_bw: 'perftest',
  ndctl: 'ndctl',
  fallocate: 'util-linux',
  taskset: 'util-linux',
  perl: 'perl-base',
  gcc: 'gcc',
  gdb: 'gdb',
  makedumpfile: 'makedumpfile',
} as const

export type HostTool = keyof typeof packageOf

/** Absolute path of `tool` on this host, or undefined. */
export async function findTool(tool: HostTool): Promise<string | undefined> {
  for (const folder of searchPath) {
    const candidate = join(folder, tool)
    if (folder !== '' && (await isExecutable(candidate))) return candidate
  }
  return undefined
}

/** Resolves all `tools` or throws one {@link PrerequisiteError} that names every missing package at once. */
export async function requireTools<T extends HostTool>(tools: readonly T[]): Promise<Record<T, string>> {
  const found = {} as Record<T, string>
  const missing: T[] = []
  for (const tool of tools) {
    const path = await findTool(tool)
    if (path === undefined) missing.push(tool)
    else found[tool] = path
  }
  if (missing.length > 0) {
    const packages = [...new Set(missing.map((tool) => packageOf[tool]))].join(' ')
    throw new PrerequisiteError(`missing on this machine: ${missing.join(', ')}; run: apt-get install ${packages}`)
  }
  return found
}

/** Runs a program of the host to its end and returns its standard output; throws with its standard error otherwise. */
export async function runOnHost(file: string, args: readonly string[], options: { cwd?: string } = {}): Promise<string> {
  const { stdout } = await execFileAsync(file, [...args], { ...options, maxBuffer: 64 << 20 })
  return stdout
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  )
}
