import { BackdoorsError, type ErrorCode } from '../../errors.js'

/** The code of what `run` throws; undefined where it throws nothing. Whatever is not ours goes through. */
export function codeOf(run: () => unknown): ErrorCode | undefined {
  try {
    run()
  } catch (error) {
    if (error instanceof BackdoorsError) return error.code
    throw error
  }
  return undefined
}
