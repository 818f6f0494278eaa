/** How commands come by a kernel's memory: through the daemon of this machine, or in a file. */
import { Option, type Command } from 'commander'
import { resolve } from 'node:path'
import { BackdoorsError, isBackdoorsError } from '../errors.js'
import type { KernelImage } from '../kernel/kernel-image.js'
import type { KernelTables, SymbolCache } from '../kernel/kernel-symbols.js'
import type { PhysicalMemory } from '../kernel/physical-memory.js'
import { describeError, type Output } from './output.js'
import { Progress } from './progress.js'
import { addRegionOptions, regionPathOf, type RegionOptions } from './region-option.js'
import { formatBytes, formatUs } from './quantities.js'

export interface KernelMemoryOptions extends RegionOptions {
  readonly memory?: string
  readonly map?: string
  /** False with `--no-cache`. */
  readonly cache?: string | false
  readonly progress?: boolean
  readonly json?: boolean
}

/** What reading took. */
export interface Cost {
  /** Pieces of memory: over RDMA each is an operation. */
  readonly reads: number
  readonly bytes: number
  readonly ms: number
}

export interface OpenKernel {
  readonly image: KernelImage
  /** What it took to find the kernel, and to learn its symbols and types. */
  readonly learning: Cost & { readonly fromCache: boolean }
  readonly progress: Progress
  /** What a read cost, and what it gave. */
  readonly measure: <T>(read: () => Promise<T>) => Promise<{ readonly result: T; readonly cost: Cost }>
}

export function addKernelOptions(command: Command): Command {
  return addRegionOptions(command)
    .addOption(new Option('--memory <file>', "a machine's RAM at rest, instead of a NODE: an image, a vmcore, a DAX device").conflicts(['region', 'config']))
    .option('--map <spans>', 'where in the file which physical addresses are: PHYSICAL:LENGTH:OFFSET,…')
    .option('--cache <folder>', 'where symbols and types of kernels are kept, by build id (default: $XDG_CACHE_HOME/backdoors/symbols, or ~/.cache/backdoors/symbols)')
    .option('--no-cache', 'learn them from memory each time')
    .option('--progress', 'say on stderr how far it has come, where that is no terminal, too')
    .option('--json', 'one JSON object on stdout')
}

export const kernelHelp = `
NODE is a host whose whole memory is lent, and that the daemon of this machine watches: say which daemon by --config or --region.
With --memory FILE, NODE is left out. What could not be read is told on stderr, or in "faults"; it ends with 0 as long as something
was read. Symbols and types are learned from the memory itself, and kept for the next time.`

/** @returns the NODE that was given, or none where a file was; and the words behind it @throws BackdoorsError INVALID_ARGUMENT */
export function nodeOf(words: readonly string[], { memory }: KernelMemoryOptions): { readonly node: string | undefined; readonly rest: readonly string[] } {
  if (memory !== undefined) return { node: undefined, rest: words }
  const [node, ...rest] = words
  if (node === undefined) throw new BackdoorsError('INVALID_ARGUMENT', 'Whose memory? Give a NODE, or --memory FILE.', { field: 'node' })
  return { node, rest }
}

/** @throws BackdoorsError INVALID_ARGUMENT */
export function pidOf(text: string): number {
  const pid = /^\d{1,7}$/.test(text) ? Number(text) : 0
  if (pid < 1) throw new BackdoorsError('INVALID_ARGUMENT', `${JSON.stringify(text)} is no PID.`, { field: 'pid' })
  return pid
}

/**
 * Opens a kernel, does the work, and closes its memory.
 * @throws BackdoorsError INVALID_ARGUMENT, CONFIG_INVALID, DAEMON_UNAVAILABLE, PEER_UNKNOWN, REGION_NOT_FOUND, KERNEL_NOT_FOUND, and what the work throws
 */
export async function withKernel(node: string | undefined, options: KernelMemoryOptions, output: Output, work: (kernel: OpenKernel) => Promise<void>): Promise<void> {
  const { KernelImage } = await import('../kernel/kernel-image.js')
  const { physical, hints, close } = await openMemory(node, options)
  const progress = new Progress(output, options.progress ?? false)
  const measure = async <T>(read: () => Promise<T>): Promise<{ result: T; cost: Cost }> => {
    const [{ operations, bytes }, since] = [{ ...physical.cost }, performance.now()]
    const result = await read()
    return { result, cost: { reads: physical.cost.operations - operations, bytes: physical.cost.bytes - bytes, ms: Math.round((performance.now() - since) * 10) / 10 } }
  }
  try {
    const cache = await openCache(options, output)
    const { result: image, cost } = await measure(() => KernelImage.learn({ physical, hints, ...(cache ? { cache } : {}), onProgress: (step, done, total) => progress.show(step, done, total) }))
    progress.end()
    await work({ image, progress, measure, learning: { ...cost, fromCache: cache?.hasHit ?? false } })
  } finally {
    progress.end()
    await close()
  }
}

interface OpenMemory {
  readonly physical: PhysicalMemory
  readonly hints: readonly number[]
  readonly close: () => Promise<void>
}

async function openMemory(node: string | undefined, { memory, map, ...region }: KernelMemoryOptions): Promise<OpenMemory> {
  if (memory !== undefined) {
    const { openRamFile, parseAddressMap } = await import('../kernel/ram-file.js')
    const physical = await openRamFile(resolve(memory), map === undefined ? undefined : parseAddressMap(map))
    return { physical, hints: [], close: () => physical.close() }
  }
  if (map !== undefined) throw new BackdoorsError('INVALID_ARGUMENT', '--map belongs to --memory: the daemon knows the map of a NODE.', { field: 'map' })
  const { RelayedMemory } = await import('../fabric/relay/relayed-memory.js')
  const { PhysicalMemory } = await import('../kernel/physical-memory.js')
  const { memorySocketPathOf } = await import('../fabric/relay/relay-path.js')
  const relayed = await RelayedMemory.connect(memorySocketPathOf(await regionPathOf(region)), node as string)
  return { physical: new PhysicalMemory(relayed, relayed.map), hints: relayed.notes, close: () => relayed.close() }
}

/** A cache that cannot be written is a pity, and no reason to read nothing of a machine that has failed. */
class KeptSymbols implements SymbolCache {
  readonly #cache: SymbolCache
  readonly #output: Output
  hasHit = false

  constructor(cache: SymbolCache, output: Output) {
    this.#cache = cache
    this.#output = output
  }

  async load(buildId: string): Promise<KernelTables | undefined> {
    const tables = await this.#cache.load(buildId)
    this.hasHit = tables !== undefined
    return tables
  }

  async store(buildId: string, tables: KernelTables): Promise<void> {
    try {
      await this.#cache.store(buildId, tables)
    } catch (error) {
      if (!isBackdoorsError(error)) throw error
      warn([error], this.#output)
    }
  }
}

async function openCache({ cache }: KernelMemoryOptions, output: Output): Promise<KeptSymbols | undefined> {
  if (cache === false) return undefined
  const { defaultCacheFolder, DirectorySymbolCache } = await import('../kernel/symbol-cache.js')
  const folder = cache ?? defaultCacheFolder()
  return new KeptSymbols(new DirectorySymbolCache(resolve(folder)), output)
}

/** Faults of one answer that are printed at most; JSON has all of them. */
const mostWarnings = 20

/** Says what could not be read. */
export function warn(faults: readonly BackdoorsError[], output: Output): void {
  for (const { message, code } of faults.slice(0, mostWarnings)) output.warn(`${message} (${code})`)
  if (faults.length > mostWarnings) output.warn(`and ${faults.length - mostWarnings} more (--json has all of them)`)
}

export const faultsOf = (faults: readonly BackdoorsError[]): { code: unknown; message: unknown }[] => faults.map((fault) => {
  const { code, message } = describeError(fault)
  return { code, message }
})

/** What reading took, in one line. */
export function costLine(cost: Cost, { fromCache, ...learning }: OpenKernel['learning']): string {
  const say = ({ reads, bytes, ms }: Cost): string => `${reads} reads, ${formatBytes(bytes)}, ${formatUs(ms * 1000)}`
  return `cost: ${say(cost)}; to learn the kernel${fromCache ? ', with symbols from the cache' : ''}: ${say(learning)}`
}
