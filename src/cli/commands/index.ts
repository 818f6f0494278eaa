import type { Command } from 'commander'
import { registerDemo } from '../demo/demo.js'
import type { Output } from '../output.js'
import { registerBench } from './bench.js'
import { registerDaemon } from './daemon.js'
import { registerDevices } from './devices.js'
import { registerDoctor } from './doctor.js'
import { registerExports } from './exports.js'
import { registerInspect } from './inspect.js'
import { registerKeys } from './keys.js'
import { registerSensors } from './sensors.js'
import { registerSessions } from './sessions.js'
import { registerStatus } from './status.js'
import { registerTop } from './top.js'

/**
 * Adds every command. What a command runs is imported when it runs, so that `--help` is quick and works on a
 * machine where the addon was not built.
 */
export function registerCommands(program: Command, output: Output): void {
  registerDemo(program)
  registerDoctor(program, output)
  registerKeys(program, output)
  registerDaemon(program, output)
  registerStatus(program, output)
  registerTop(program, output)
  registerSessions(program, output)
  registerSensors(program, output)
  registerInspect(program, output)
  registerExports(program, output)
  registerDevices(program, output)
  registerBench(program, output)
}
