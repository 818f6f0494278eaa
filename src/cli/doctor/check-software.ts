/** Node and the native addon. */
import type { Finding, Purpose } from './finding.js'
import type { Machine } from './machine.js'

/** As package.json's `engines` has it; a test keeps the two equal. */
export const leastNode = { major: 20, minor: 17 } as const

export function checkNode({ nodeVersion }: Machine): Finding {
  const [major = 0, minor = 0] = nodeVersion.replace(/^v/, '').split('.').map(Number)
  const enough = major > leastNode.major || (major === leastNode.major && minor >= leastNode.minor)
  const about = { check: 'node', seen: `Node ${nodeVersion}`, why: `Backdoors is tested on Node ${leastNode.major}.${leastNode.minor} and newer.` }
  return enough ? { ...about, severity: 'ok' } : { ...about, severity: 'bad', mend: 'Install a newer Node (https://nodejs.org).' }
}

export function checkMemoryAddon(machine: Machine): Finding {
  const trouble = machine.addonTrouble('memory')
  const about = { check: 'addon-memory', why: 'Regions, sensors and commits need the native addon on every machine.' }
  if (trouble === undefined) return { ...about, severity: 'ok', seen: 'the addon\'s target "memory" loads' }
  return { ...about, severity: 'bad', seen: trouble, mend: 'apt-get install g++ make python3, then npm rebuild backdoors.' }
}

export function checkVerbsAddon(machine: Machine, { fabric }: Purpose): Finding {
  const trouble = machine.addonTrouble('verbs')
  const about = { check: 'addon-verbs', why: 'RDMA needs the addon\'s target "verbs", and that libibverbs; nodes on one machine (fabric shm) do without.' }
  if (trouble === undefined) return { ...about, severity: 'ok', seen: 'the addon\'s target "verbs" loads' }
  const mend = 'apt-get install libibverbs-dev ibverbs-providers pkg-config, then npm rebuild backdoors.'
  return { ...about, severity: fabric === 'verbs' ? 'bad' : 'warn', seen: trouble, mend }
}
