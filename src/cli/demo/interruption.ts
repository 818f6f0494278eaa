import { BackdoorsError } from '../../errors.js'

export interface Interruption {
  /** Rejects at the first of them. */
  readonly happened: Promise<never>
  /** Signals do again what they usually do. */
  forget(): void
}

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/**
 * Ctrl-C and its like, or the time being up, end a demonstration in order.
 * @param what it is, in words: the `demo`
 * @param overallMs it takes no longer; without end where undefined
 */
export function interruptionOf(what: string, overallMs: number | undefined): Interruption {
  let reject: (error: Error) => void = () => undefined
  const happened = new Promise<never>((_, rejectPromise) => {
    reject = rejectPromise
  })
  happened.catch(() => undefined)
  const onSignal = (signal: NodeJS.Signals): void => reject(new Error(`The ${what} was ended by ${signal}.`))
  const timeUp = (): void => reject(new BackdoorsError('TIMEOUT', `The ${what} has not ended within ${(overallMs ?? 0) / 1000} s.`))
  const timer = overallMs === undefined ? undefined : setTimeout(timeUp, overallMs)
  for (const signal of signals) process.once(signal, onSignal)
  return {
    happened,
    forget: () => {
      clearTimeout(timer)
      for (const signal of signals) process.removeListener(signal, onSignal)
    },
  }
}
