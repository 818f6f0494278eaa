import { checkCrashKernel, checkHardwareWatchdog, checkNmiWatchdog, checkPanic, checkPanicSettings } from './check-kernel.js'
import { checkMemlock, checkRegionSpace } from './check-memory.js'
import { checkDevices, checkGids, checkMtu, checkSoftRoce } from './check-network.js'
import { checkNetAdmin, checkRealTime, checkRealTimeThrottling } from './check-rights.js'
import { checkMemoryAddon, checkNode, checkVerbsAddon } from './check-software.js'
import type { Finding, Purpose } from './finding.js'
import type { Machine } from './machine.js'

/** In the order in which they are shown. A check that does not apply gives no finding. */
const checks: readonly ((machine: Machine, purpose: Purpose) => Finding | undefined)[] = [
  checkNode, checkMemoryAddon, checkVerbsAddon,
  checkRegionSpace, checkMemlock,
  checkDevices, checkGids, checkMtu, checkSoftRoce,
  checkPanic, checkCrashKernel, checkHardwareWatchdog, checkPanicSettings, checkNmiWatchdog,
  checkRealTime, checkRealTimeThrottling, checkNetAdmin,
]

/** Runs every check. */
export const examine = (machine: Machine, purpose: Purpose): Finding[] => checks.flatMap((check) => check(machine, purpose) ?? [])
