/**
 * The guests' kernel: Debian's own `linux-image-amd64`, unpacked into a cache folder and never installed. The build
 * machine's kernel may lack InfiniBand altogether; this one has soft-RoCE as a module.
 */

import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { messageOf, PrerequisiteError } from './errors.js'
import { requireTools, runOnHost } from './host-tools.js'

export interface Kernel {
  /** As `uname -r` says it in the guest, e.g. `6.1.0-56-amd64`. */
  readonly release: string
  /**
   * The kernel as an uncompressed ELF file, which QEMU starts directly (PVH): unpacking itself would take a compressed
   * image four seconds under emulation. (The decompressor is also what randomizes addresses: this way there is no KASLR.)
   */
  readonly imagePath: string
  /** The kernel as Debian ships it, which moves itself to a random address. */
  readonly compressedPath: string
  /** Folder with the modules, `modules.dep` and `modules.builtin`. */
  readonly modulesPath: string
}

const imageName = 'vmlinux'

/** Where downloads are kept between runs: `$BACKDOORS_CACHE`, else the user's cache folder. */
export function cachePath(): string {
  const own = process.env['BACKDOORS_CACHE']
  if (own !== undefined && own !== '') return own
  return join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'backdoors')
}

/**
 * The current Debian kernel, downloaded (70 MB) and unpacked (400 MB) the first time.
 * Without a package index the newest kernel in the cache serves.
 * @throws PrerequisiteError when there is neither.
 */
export async function obtainKernel(log: (line: string) => void): Promise<Kernel> {
  const folder = join(cachePath(), 'kernels')
  await mkdir(folder, { recursive: true })
  const release = await currentRelease().catch(async (error: unknown) => {
    const cached = await newestCached(folder)
    if (cached === undefined) throw error
    log(`${messageOf(error)}; using the cached kernel ${cached}`)
    return cached
  })
  const root = join(folder, release)
  if (!existsSync(root)) {
    log(`downloading Debian's kernel ${release}`)
    await downloadInto(folder, release)
  }
  return {
    release,
    imagePath: join(root, imageName),
    compressedPath: join(root, 'boot', `vmlinuz-${release}`),
    modulesPath: join(root, 'lib', 'modules', release),
  }
}

/** What the metapackage `linux-image-amd64` stands for today. */
async function currentRelease(): Promise<string> {
  const tools = await requireTools(['apt-cache'])
  const listing = await runOnHost(tools['apt-cache'], ['depends', 'linux-image-amd64']).catch(() => '')
  const match = /Depends: linux-image-(\d\S*-amd64)/.exec(listing)
  if (match?.[1] === undefined) {
    throw new PrerequisiteError('apt knows no package linux-image-amd64; run: apt-get update (Debian 12, amd64)')
  }
  return match[1]
}

async function newestCached(folder: string): Promise<string | undefined> {
  const names = (await readdir(folder)).filter((name) => /^\d.*-amd64$/.test(name))
  return names.sort((a, b) => a.localeCompare(b, 'en', { numeric: true })).at(-1)
}

/** Works in a folder of its own and renames at the end, so that an interrupted or a concurrent run leaves no half kernel. */
async function downloadInto(folder: string, release: string): Promise<void> {
  const tools = await requireTools(['apt-get', 'dpkg', 'depmod', 'xz'])
  const scratch = await mkdtemp(join(folder, 'unpacking-'))
  try {
    await runOnHost(tools['apt-get'], ['download', `linux-image-${release}`], { cwd: scratch }).catch((error: unknown) => {
      throw new PrerequisiteError(
        `cannot download linux-image-${release}; is the network there, and is the package list fresh (apt-get update)?`,
        { cause: error },
      )
    })
    const archive = (await readdir(scratch)).find((name) => name.endsWith('.deb'))
    if (archive === undefined) throw new PrerequisiteError(`apt-get download linux-image-${release} left no file`)
    const root = join(scratch, 'root')
    await runOnHost(tools.dpkg, ['-x', join(scratch, archive), root])
    await runOnHost(tools.depmod, ['-b', root, release])
    await extractImage(join(root, 'boot', `vmlinuz-${release}`), join(root, imageName))
    await rename(root, join(folder, release)).catch((error: unknown) => {
      if (!existsSync(join(folder, release))) throw error
    })
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

/**
 * Takes the ELF file out of a bootable image. Offsets: Documentation/x86/boot.rst in the Linux sources, "The Real-Mode
 * Kernel Header". Debian compresses with XZ.
 */
async function extractImage(from: string, to: string): Promise<void> {
  const tools = await requireTools(['xz'])
  const image = await readFile(from)
  const setupSectors = image.readUInt8(0x1f1) || 4
  const start = (setupSectors + 1) * 512 + image.readUInt32LE(0x248)
  const sizeFieldBytes = 4 // of the unpacked kernel; stands after the compressed data
  const compressed = image.subarray(start, start + image.readUInt32LE(0x24c) - sizeFieldBytes)
  await writeFile(`${to}.xz`, compressed)
  await runOnHost(tools.xz, ['-d', `${to}.xz`])
}
