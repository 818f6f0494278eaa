/** What processes were started with: it stands in their own memory. */
import { BackdoorsError } from '../../errors.js'
import type { KernelImage } from '../kernel-image.js'
import type { KernelObject } from '../kernel-object.js'
import { pageBytes } from '../page-table-format.js'
import type { VirtualRange } from '../virtual-memory.js'
import type { Faults } from '../walks.js'

/** Of one process; what is longer is cut. */
const mostBytes = 32 << 10
/** Read in one batch. */
const mostBatch = 1024
/** A title that a process has written over its arguments and its environment is read so far, as the kernel does. */
const mostTitleBytes = pageBytes
const endOfUserAddresses = 1n << 56n

interface Wanted {
  readonly mm: bigint
  readonly pgd: bigint
  readonly arguments: VirtualRange
  /** What follows the arguments, where a title may go on. */
  readonly environment: VirtualRange | undefined
}

/**
 * The arguments of processes, by the addresses of their `mm_struct`s. Those whose memory is not there (swapped out, or none was
 * given) are left out, and said in `faults`.
 *
 * @param memories `mm_struct`, with `pgd`, `arg_start`, `arg_end`, `env_start`, `env_end`
 */
export async function readArguments(image: KernelImage, memories: readonly KernelObject[], faults: Faults): Promise<Map<bigint, readonly string[]>> {
  const found = new Map<bigint, readonly string[]>()
  const wanted = memories.flatMap((memory) => wantedOf(memory, found))
  for (let i = 0; i < wanted.length; i += mostBatch) await readBatch(image, wanted.slice(i, i + mostBatch), found, faults)
  return found
}

function wantedOf(memory: KernelObject, found: Map<bigint, readonly string[]>): Wanted[] {
  const [start, end, environment, environmentEnd] = ['arg_start', 'arg_end', 'env_start', 'env_end'].map((path) => memory.unsigned(path)) as [bigint, bigint, bigint, bigint]
  if (start >= end || end > endOfUserAddresses) {
    if (start === end) found.set(memory.address, [])
    return []
  }
  const length = Math.min(Number(end - start), mostBytes)
  const behind = environment === end && environmentEnd > environment && environmentEnd < endOfUserAddresses ? Math.min(Number(environmentEnd - environment), mostTitleBytes) : 0
  return [{ mm: memory.address, pgd: memory.pointer('pgd'), arguments: { address: start, length }, environment: behind > 0 && length < mostTitleBytes ? { address: environment, length: behind } : undefined }]
}

async function readBatch(image: KernelImage, wanted: readonly Wanted[], found: Map<bigint, readonly string[]>, faults: Faults): Promise<void> {
  const roots = await image.memory.translate(wanted.map(({ pgd }) => pgd))
  const asked = wanted.flatMap((one, i) => {
    const translated = roots[i]
    if (translated && 'physical' in translated) return [{ ...one, root: translated.physical - (translated.physical % pageBytes) }]
    faults.push(new BackdoorsError('NOT_MAPPED', `The root of a process's page tables, at 0x${one.pgd.toString(16)} of ${image.peer}, is not mapped.`, { peer: image.peer, address: one.pgd, length: pageBytes }))
    return []
  })
  const read = await image.memory.tryReadMany(asked.flatMap(({ arguments: words, environment, root }) => [{ ...words, root }, ...(environment ? [{ ...environment, root }] : [])]))
  let next = 0
  for (const { mm, environment } of asked) {
    const words = read[next++] as Uint8Array | BackdoorsError
    const behind = environment ? read[next++] : undefined
    if (words instanceof Uint8Array) found.set(mm, wordsOf(words, behind instanceof Uint8Array ? behind : undefined))
    else faults.push(words)
  }
}

/** Arguments end with a NUL each. Without the last, the process has written a title over them, that ends at the first. */
function wordsOf(words: Uint8Array, behind: Uint8Array | undefined): string[] {
  const decode = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)
  if (words.at(-1) === 0 || words.length >= mostTitleBytes) return decode(words.at(-1) === 0 ? words.subarray(0, -1) : words).split('\0')
  const title = Buffer.concat([words, behind ?? new Uint8Array(0)])
  const end = title.indexOf(0)
  return [decode(end < 0 ? title : title.subarray(0, end))]
}
