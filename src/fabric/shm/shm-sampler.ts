/** The sampler thread of memories on this machine. */
import { memoryAddon } from '../../native/load.js'
import type { FileReader } from '../../native/memory.js'
import { type SamplerSettings, SharedSampler } from '../sampling/shared-sampler.js'

/** The file, and [offset, length, position] triples. */
export type FileSource = readonly [file: FileReader, triples: Float64Array]
export type ShmSampler = SharedSampler<FileSource>

/** May be given to many memories, which then share one thread. */
export function createShmSampler(settings: SamplerSettings = {}): ShmSampler {
  return new SharedSampler((listener) => new (memoryAddon().Sampler)(listener, settings), settings)
}
