import type { Command } from 'commander'
import type { Output } from '../output.js'

type Register = (program: Command, output: Output) => void

/** Each adds the commands that are named, and is imported when one of them is wanted: somebody waits for every module that is loaded. */
const groups: readonly { readonly names: readonly string[]; readonly load: () => Promise<Register> }[] = [
  { names: ['demo'], load: async () => (await import('../demo/demo.js')).registerDemo },
  { names: ['doctor'], load: async () => (await import('./doctor.js')).registerDoctor },
  { names: ['keys'], load: async () => (await import('./keys.js')).registerKeys },
  { names: ['daemon'], load: async () => (await import('./daemon.js')).registerDaemon },
  { names: ['status'], load: async () => (await import('./status.js')).registerStatus },
  { names: ['top'], load: async () => (await import('./top.js')).registerTop },
  { names: ['sessions'], load: async () => (await import('./sessions.js')).registerSessions },
  { names: ['sensors'], load: async () => (await import('./sensors.js')).registerSensors },
  { names: ['inspect'], load: async () => (await import('./inspect.js')).registerInspect },
  { names: ['core', 'vmcore'], load: async () => (await import('./exports.js')).registerExports },
  { names: ['devices'], load: async () => (await import('./devices.js')).registerDevices },
  { names: ['bench'], load: async () => (await import('./bench.js')).registerBench },
]

/**
 * Adds the command that the line begins with, or else every one. What a command runs is imported when it runs, so that
 * `--help` is quick and works on a machine where the addon was not built.
 */
export async function registerCommands(program: Command, output: Output, [first]: readonly string[]): Promise<void> {
  const wanted = groups.filter(({ names }) => first !== undefined && names.includes(first))
  const registers = await Promise.all((wanted.length > 0 ? wanted : groups).map(({ load }) => load()))
  for (const register of registers) register(program, output)
}
