/** A real machine that panicked, recorded: the pages of its RAM that the views read, and what it reported of itself just before. */
import { readFileSync } from 'node:fs'
import { KernelImage } from '../kernel-image.js'
import { openRamFile } from '../ram-file.js'

const recorded = (name: string): string => new URL(`recorded/${name}`, import.meta.url).pathname

let image: Promise<KernelImage> | undefined

/** Learned once for all tests of a file. */
export function panickedHost(): Promise<KernelImage> {
  image ??= openRamFile('/dev/shm/panic.ram').then((physical) => KernelImage.learn({ physical }))
  return image
}

/** Output of commands that ran in it before it panicked, by name: `ps`, `ss`, `maps`, `meminfo`, `dmesg`, … */
export const reported = JSON.parse(readFileSync(recorded('reported.json'), 'utf8')) as Readonly<Record<string, string>>
