/** What the example can be asked for. */
import { BackdoorsError } from '../../src/errors.js'
import { failures, type Failure } from '../../src/cli/demo/options.js'

export interface AuctionOptions {
  readonly users: number
  readonly seconds: number
  readonly failure: Failure
  readonly seed: number
  /** Users speak to the application nodes themselves, without the front tier. */
  readonly direct: boolean
  readonly json: boolean
  readonly keep: boolean
  /** Port of the front tier; 0 for any that is free. */
  readonly port: number
  /** Switches off that a step's key is heeded; the users have to notice. */
  readonly canary: boolean
}

/** As the command line gives them. */
export interface AuctionFlags {
  readonly users: string
  readonly seconds: string
  readonly failure: string
  readonly seed?: string
  readonly port: string
  readonly direct?: boolean
  readonly json?: boolean
  readonly keep?: boolean
  readonly canary?: boolean
}

const invalid = (field: string, message: string): BackdoorsError => new BackdoorsError('INVALID_ARGUMENT', `--${field} ${message}`, { field })

function wholeNumber(field: string, text: string, low: number, high: number): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && value >= low && value <= high) return value
  throw invalid(field, `takes a whole number from ${low} to ${high}, not ${JSON.stringify(text)}.`)
}

/** @throws BackdoorsError INVALID_ARGUMENT */
export function parseFlags(flags: AuctionFlags, randomSeed: () => number): AuctionOptions {
  const failure = failures.find((each) => each === flags.failure)
  if (failure === undefined) throw invalid('failure', `takes ${failures.join(' or ')}, not ${JSON.stringify(flags.failure)}.`)
  return {
    failure,
    users: wholeNumber('users', flags.users, 1, 2000),
    seconds: wholeNumber('seconds', flags.seconds, 5, 3600),
    seed: flags.seed === undefined ? randomSeed() : wholeNumber('seed', flags.seed, 0, Number.MAX_SAFE_INTEGER),
    port: wholeNumber('port', flags.port, 0, 65_535),
    direct: flags.direct === true,
    json: flags.json === true,
    keep: flags.keep === true,
    canary: flags.canary === true,
  }
}
