/** The addon as a child process or worker of a test loads it: without TypeScript, and with plain errors. */
import { createRequire } from 'node:module'
import { join } from 'node:path'

const folder = process.env.BACKDOORS_ADDON_DIR ?? join(import.meta.dirname, '..', '..', '..', 'build', 'Release')
export const addon = createRequire(import.meta.url)(join(folder, 'memory.node'))
addon.initialize((code, message, details) => Object.assign(new Error(message), { code, details }))

/** A memory with a beat thread, a sampler that watches it, and a listener: all there is, at work. */
export function startEverything(path, listener = () => {}, intervalUs = 20) {
  const memory = new addon.SharedMemory({ path, create: true, length: 65536 })
  const beat = new addon.BeatThread({ memory, counterOffset: 64, fenceOffset: 0, fenceLimit: 0, intervalUs: 3 * intervalUs })
  const reader = new addon.FileReader(path)
  const sampler = new addon.Sampler(listener)
  // So short a deadline that the counter seems to stall and to move all the time.
  const cells = [{ counterPosition: 0, pendingPosition: -1, deadlineUs: intervalUs }]
  const target = sampler.add(reader, new Float64Array([64, 8, 0]), cells, intervalUs, 1e6)
  return { memory, beat, reader, sampler, target }
}

/** Waits for an event that will come. */
export async function until(condition) {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1))
}
