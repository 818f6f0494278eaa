/** Addresses of a failed node that somebody answers for: is it the node itself, or another machine? */
import type { Logger } from 'pino'
import { BackdoorsError } from '../../errors.js'
import type { AddressConfig } from './addresses-config.js'

export interface Answerer {
  /** As `02:00:00:00:00:0a`. */
  readonly hardware: string
  /** Is that none by which the failed node has answered while it was up? False where nobody knows. */
  readonly isAnother: boolean
}

export interface SpokenForOptions {
  readonly peer: string
  readonly held: readonly AddressConfig[]
  /** By address: `Addresses.answered`. */
  readonly answers: ReadonlyMap<string, Answerer>
  /** Has fencing silenced the node? A kernel that may run on answers for itself, and a panicked one, too, by the interrupts that its last processor takes. */
  readonly isSilenced: boolean
  /** A recoverer that failed before this one may have taken them. */
  readonly isSuccession: boolean
  readonly log: Logger
}

/** @returns those of `held` that another machine speaks for, which are not to be taken */
export function spokenFor({ peer, held, answers, isSilenced, isSuccession, log }: SpokenForOptions): AddressConfig[] {
  const isStranger = ({ address }: AddressConfig): boolean => !isSuccession && (isSilenced || answers.get(address)?.isAnother === true)
  const answered = held.filter(({ address }) => answers.has(address))
  const strangers = answered.filter(isStranger)
  const told = (some: readonly AddressConfig[], what: string): void => {
    if (some.length > 0) log.warn({ peer, addresses: some.map(({ address }) => `${address} at ${answers.get(address)?.hardware ?? ''}`) }, what)
  }
  told(strangers, 'another machine answers for addresses of the failed node: they are not taken')
  told(answered.filter((each) => !strangers.includes(each)), 'addresses of the failed node are still answered for; they are taken all the same')
  return strangers
}

export function spokenForError(peer: string, addresses: readonly AddressConfig[]): BackdoorsError {
  const [first] = addresses
  return new BackdoorsError('ANNOUNCE_FAILED', `Another machine answers for ${addresses.map(({ address }) => address).join(' and ')} of ${peer}: not taken. Find out who has it; recovery.probeAddresses: false takes addresses without asking.`, { peer, interface: first?.interface ?? '' })
}
