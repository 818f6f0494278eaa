/** A membership's events, to wait for. */
import type { BackdoorsError } from '../../../errors.js'
import type { Membership, MembershipEvents } from '../membership.js'

export class Observed implements MembershipEvents {
  readonly troubles: BackdoorsError[] = []
  readonly notes: string[] = []
  changes = 0
  wells = 0
  #tell: () => void = () => undefined

  readonly onChange = (): void => this.#count(() => (this.changes += 1))
  readonly onWell = (): void => this.#count(() => (this.wells += 1))
  readonly onTrouble = (error: BackdoorsError): void => this.#count(() => this.troubles.push(error))
  readonly onNote = (message: string): void => this.#count(() => this.notes.push(message))

  /** Resolves as soon as it is true; looked at after each event. */
  async until(isTrue: () => boolean): Promise<void> {
    while (!isTrue()) {
      await new Promise<void>((resolve) => {
        this.#tell = resolve
      })
    }
  }

  #count(note: () => void): void {
    note()
    this.#tell()
  }
}

export const namesOf = ({ current }: Membership): string[] => current.map(({ name }) => name)
