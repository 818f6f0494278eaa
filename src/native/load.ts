/** Loads the addon's targets; nobody else imports them. */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { BackdoorsError } from '../errors.js'
import type { AddonBase } from './addon-base.js'
import type { MemoryAddon } from './memory.js'
import type { NetworkAddon } from './network.js'
import type { VerbsAddon } from './verbs.js'

const require = createRequire(import.meta.url)

function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url))
  while (!existsSync(join(folder, 'binding.gyp')) && dirname(folder) !== folder) folder = dirname(folder)
  return folder
}

function load<T extends AddonBase>(target: string, absent: (path: string, cause: unknown) => BackdoorsError): T {
  // A sanitizer build, for example, stands in another folder.
  const folder = process.env['BACKDOORS_ADDON_DIR'] ?? join(packageRoot(), 'build', 'Release')
  const path = join(folder, `${target}.node`)
  let addon: T
  try {
    addon = require(path) as T
  } catch (cause) {
    throw absent(path, cause)
  }
  addon.initialize((code, message, details) => new BackdoorsError(code, message, details))
  return addon
}

const notBuilt = (path: string, cause: unknown): BackdoorsError =>
  new BackdoorsError('ADDON_NOT_BUILT', `The native addon could not be loaded from ${path}: install g++, make and python3, then run "npm rebuild backdoors".`, { path, cause })

let memory: MemoryAddon | undefined
let network: NetworkAddon | undefined
let verbs: VerbsAddon | undefined

/** @throws BackdoorsError ADDON_NOT_BUILT */
export function memoryAddon(): MemoryAddon {
  memory ??= load<MemoryAddon>('memory', notBuilt)
  return memory
}

/** @throws BackdoorsError ADDON_NOT_BUILT */
export function networkAddon(): NetworkAddon {
  network ??= load<NetworkAddon>('network', notBuilt)
  return network
}

/** @throws BackdoorsError VERBS_UNAVAILABLE */
export function verbsAddon(): VerbsAddon {
  verbs ??= load<VerbsAddon>('verbs', (path, cause) => {
    const found = existsSync(path)
    const mend = found
      ? 'install libibverbs1 and ibverbs-providers ("apt-get install libibverbs1 ibverbs-providers").'
      : 'it was not built: "apt-get install libibverbs-dev pkg-config", then run "npm rebuild backdoors".'
    return new BackdoorsError('VERBS_UNAVAILABLE', `RDMA verbs are not available: ${mend}`, { path, cause })
  })
  return verbs
}
