/** All that the checks know of a machine comes through this, so that tests can make machines up. */
import { readdirSync, readFileSync, existsSync, statfsSync, statSync } from 'node:fs'
import { memoryAddon, verbsAddon } from '../../native/load.js'
import type { DeviceAttributes } from '../../native/verbs.js'

export interface FileSystemSpace {
  readonly sizeBytes: number
  readonly freeBytes: number
}

export interface Machine {
  readonly nodeVersion: string
  /** The text of a file, trimmed; undefined where there is none or it may not be read. */
  readText(path: string): string | undefined
  exists(path: string): boolean
  /** Length in bytes of a file; undefined where there is none. */
  fileBytes(path: string): number | undefined
  /** Names in a folder; none where there is no such folder. */
  list(path: string): readonly string[]
  space(path: string): FileSystemSpace | undefined
  /** Why a target of the addon does not load; undefined where it does. */
  addonTrouble(target: 'memory' | 'verbs'): string | undefined
  /** What verbs sees; undefined where its target does not load or the call fails. */
  verbsDevices(): readonly DeviceAttributes[] | undefined
}

/** The machine that this process runs on. */
export const thisMachine: Machine = {
  nodeVersion: process.version,
  readText: (path) => attempt(() => readFileSync(path, 'utf8').trim()),
  exists: existsSync,
  fileBytes: (path) => attempt(() => statSync(path).size),
  list: (path) => attempt(() => readdirSync(path)) ?? [],
  space: (path) =>
    attempt(() => {
      const { blocks, bavail, bsize } = statfsSync(path)
      return { sizeBytes: blocks * bsize, freeBytes: bavail * bsize }
    }),
  addonTrouble: (target) => {
    try {
      if (target === 'memory') memoryAddon()
      else verbsAddon()
      return undefined
    } catch (error) {
      return error instanceof Error ? error.message : String(error)
    }
  },
  verbsDevices: () => attempt(() => verbsAddon().devices()),
}

/** A file that is not there or not ours to read is a finding, not a failure of the check. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}
