/** Every sample, for other programs to look at. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Writes FOLDER/NAME.txt, one sample a line in the order they were taken, in nanoseconds. */
export function writeSamples(folder: string, name: string, ns: Float64Array): void {
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, `${name}.txt`), Array.from(ns, (sample) => `${Math.round(sample)}\n`).join(''))
}
