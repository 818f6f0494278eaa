/** What a cluster is expected to be able to do by now. What it cannot do yet is switched off here, by name, and nowhere else. */
export interface Expectations {
  /**
   * A recovery whose recoverer fails before it is done is taken over by another, and what the first had adopted and not announced is a
   * draft, which nobody serves. Without it, such sessions are not held against anybody: they may stay where they are, or be served both
   * by who recovered the recoverer and by the recoverer itself once it is back.
   */
  readonly succession: boolean
}

export const expectations: Expectations = { succession: false }
