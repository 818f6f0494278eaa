/**
 * A real machine that panicked, recorded: the pages of its RAM that views read, and what it reported of itself just before. Pages
 * that were not recorded are as if there were no RAM. `record-host.ts` says how it was made.
 */
import { readFileSync } from 'node:fs'
import { brotliDecompressSync } from 'node:zlib'
import { BytesMemory } from '../../region/testing/bytes-memory.js'
import { readLoadSegments } from '../elf.js'
import { KernelImage } from '../kernel-image.js'
import { PhysicalMemory } from '../physical-memory.js'

const recorded = (name: string): URL => new URL(`recorded/${name}`, import.meta.url)

/** Its memory as an ELF core: a file of these bytes opens with `openRamFile`. */
export const recordedCore = (): Uint8Array => new Uint8Array(brotliDecompressSync(readFileSync(recorded('host.core.br'))))

let image: Promise<KernelImage> | undefined

/** Learned once for all tests of a file. */
export function panickedHost(): Promise<KernelImage> {
  image ??= learn()
  return image
}

async function learn(): Promise<KernelImage> {
  const memory = new BytesMemory(recordedCore())
  return await KernelImage.learn({ physical: new PhysicalMemory(memory, (await readLoadSegments(memory)) ?? []) })
}

/** Output of commands that ran in it before it panicked, by name: `ps`, `ss`, `maps`, `meminfo`, `dmesg`, … */
export const reported = JSON.parse(readFileSync(recorded('reported.json'), 'utf8')) as Readonly<Record<string, string>>

/** What its serial console showed. */
export const consoleLog = readFileSync(recorded('console.log'), 'utf8')
