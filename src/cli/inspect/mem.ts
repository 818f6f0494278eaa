/** `inspect NODE mem`: as `free` prints it, and then each number as `/proc/meminfo` has it. */
import type { KernelImage } from '../../kernel/kernel-image.js'
import { readMemoryUse, type MemoryItem, type MemoryUse } from '../../kernel/views/memory-use.js'
import { columns, number, word } from './text.js'
import type { Answer } from './view.js'

export async function inspectMemory(image: KernelImage): Promise<Answer> {
  const { bytes, faults } = await readMemoryUse(image)
  const known = items.flatMap((name): [MemoryItem, number][] => (bytes[name] === undefined ? [] : [[name, bytes[name]]]))
  const details = known.map(([name, value]) => `${`${name}:`.padEnd(16)}${String(kib(value)).padStart(8)} kB`)
  return { lines: () => [...free(bytes), '', ...details], fields: () => ({ bytes }), faults, isEmpty: known.length === 0 }
}

/** In the order of /proc/meminfo. */
const items: readonly MemoryItem[] = [
  'MemTotal', 'MemFree', 'MemAvailable', 'Buffers', 'Cached', 'SwapCached', 'Active(anon)', 'Inactive(anon)', 'Active(file)', 'Inactive(file)', 'Unevictable', 'Mlocked',
  'SwapTotal', 'SwapFree', 'Dirty', 'Writeback', 'AnonPages', 'Mapped', 'Shmem', 'KReclaimable', 'Slab', 'SReclaimable', 'SUnreclaim', 'KernelStack', 'PageTables',
]

const kib = (value: number): number => Math.floor(value / 1024)

const head = [word(''), number('total'), number('used'), number('free'), number('shared'), number('buff/cache'), number('available')]

/** In KiB; what is used is what is not available, as procps 4 has it. */
function free(bytes: MemoryUse['bytes']): string[] {
  const { MemTotal, MemAvailable, MemFree, Shmem, Buffers, Cached, SReclaimable, SwapTotal, SwapFree } = bytes
  const cached = [Buffers, Cached, SReclaimable].reduce<number | undefined>((sum, part) => (sum === undefined || part === undefined ? undefined : sum + part), 0)
  const difference = (whole: number | undefined, part: number | undefined): number | undefined => (whole === undefined || part === undefined ? undefined : Math.max(0, whole - part))
  const cells = (...values: (number | undefined)[]): (number | undefined)[] => values.map((value) => (value === undefined ? undefined : kib(value)))
  return columns(head, [
    ['Mem:', ...cells(MemTotal, difference(MemTotal, MemAvailable), MemFree, Shmem, cached, MemAvailable)],
    ['Swap:', ...cells(SwapTotal, difference(SwapTotal, SwapFree), SwapFree), '', '', ''],
  ])
}
