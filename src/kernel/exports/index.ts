/** Files for tools that are there already: `gdb`, `crash`, `makedumpfile`. */
export { writeProcessCore, type ProcessCoreOptions, type ProcessCoreResult } from './process-core.js'
export type { NotedThread } from './process-notes.js'
export type { ExportProgress, StreamOptions } from './sparse-file.js'
export { writeVmcore, type VmcoreOptions, type VmcoreResult } from './vmcore.js'
