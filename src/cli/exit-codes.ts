/** What the command line's exit status says. `--help` and the README list the same. */
import { isBackdoorsError, type ErrorCode } from '../errors.js'

export const exitCodes = {
  ok: 0,
  /** The command ran, and the answer is no: a check is bad, sessions were lost, a call failed. */
  failed: 1,
  /** The command line or the configuration is wrong. */
  usage: 2,
  /** Something that the command needs is not there: the addon, verbs, a device, a daemon, a region. */
  unavailable: 3,
  /** This node has been fenced by a peer: start the daemon anew. */
  fenced: 4,
} as const

export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes]

/** One line per code, for help and documentation. */
export const exitCodeMeanings: readonly (readonly [ExitCode, string])[] = [
  [0, 'all is well'],
  [1, 'the command ran, and failed or answers no'],
  [2, 'the command line or the configuration is wrong'],
  [3, 'something needed is not there: the addon, verbs, a device, a daemon, a region'],
  [4, 'this node has been fenced by a peer: start its daemon anew'],
]

const usageErrors: readonly ErrorCode[] = ['INVALID_ARGUMENT', 'CONFIG_INVALID']
const absences: readonly ErrorCode[] = [
  'ADDON_NOT_BUILT', 'VERBS_UNAVAILABLE', 'MEMLOCK_LIMIT', 'CAPABILITY_MISSING', 'DEVICE_NOT_FOUND', 'NO_USABLE_GID',
  'REGION_NOT_FOUND', 'DAEMON_UNAVAILABLE', 'PEER_UNREACHABLE', 'KEYS_MISSING',
]

export function exitCodeOf(error: unknown): ExitCode {
  if (isBackdoorsError(error, ...usageErrors)) return exitCodes.usage
  if (isBackdoorsError(error, ...absences)) return exitCodes.unavailable
  return isBackdoorsError(error, 'FENCED') ? exitCodes.fenced : exitCodes.failed
}
