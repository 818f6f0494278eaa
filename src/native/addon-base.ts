import type { ErrorCode, ErrorDetails } from '../errors.js'

/** What every target of the addon has. */
export interface AddonBase {
  /** Gives the target the constructor of the errors it throws. Called once per environment, at load. */
  initialize(createError: (code: ErrorCode, message: string, details: ErrorDetails) => Error): void
}
