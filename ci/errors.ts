/**
 * What can go wrong with a run of the rig, told apart by exit code, so that a script knows whether the project is at
 * fault (1), the caller (2), the rig itself (3) or time (4).
 */

/** Exit codes of `rig`; documented in its `--help`. */
export const ExitCode = { ok: 0, failed: 1, usage: 2, guestDidNotBoot: 3, deadline: 4 } as const

export class RigError extends Error {
  readonly exitCode: number = ExitCode.failed

  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = new.target.name
  }
}

/** The command line asked for something that does not exist. */
export class UsageError extends RigError {
  override readonly exitCode = ExitCode.usage
}

/** The machine lacks something the rig needs; the message says what to install. */
export class PrerequisiteError extends RigError {
  override readonly exitCode = ExitCode.guestDidNotBoot
}

/** A guest never came up: no verdict on the code under test. `consoleTail` is the end of what its kernel said. */
export class GuestBootError extends RigError {
  override readonly exitCode = ExitCode.guestDidNotBoot

  constructor(
    readonly guest: string,
    reason: string,
    readonly consoleTail: string,
  ) {
    super(`guest ${guest} did not boot: ${reason}\nlast lines of its console:\n${consoleTail}`)
  }
}

/** A guest that had booted is gone (its QEMU ended, or its agent did). */
export class GuestGoneError extends RigError {}

/** A command in a guest failed, or did not end in time. */
export class GuestCommandError extends RigError {}

/** The whole run took longer than it was given. */
export class DeadlineError extends RigError {
  override readonly exitCode = ExitCode.deadline
}

/** The run was interrupted by a signal; as a shell would report it. */
export class InterruptedError extends RigError {
  override readonly exitCode: number

  constructor(signal: 'SIGINT' | 'SIGTERM') {
    super(`interrupted by ${signal}`)
    this.exitCode = signal === 'SIGINT' ? 130 : 143
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
