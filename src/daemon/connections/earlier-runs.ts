/** What earlier runs of a recovery have done about a host's connections: one that is run again leaves them as they are, and does not count them once more. */
export class EarlierRuns {
  /** By node, of the life of it that was recovered last. */
  readonly #told = new Map<string, { readonly life: string; readonly names: Set<string> }>()

  /** Names of the connections of which it is settled, and told, what becomes of them. */
  of(node: string, life: string): ReadonlySet<string> {
    const told = this.#told.get(node)
    return told?.life === life ? told.names : new Set()
  }

  add(node: string, life: string, names: Iterable<string>): void {
    const told = this.#told.get(node)
    const all = told?.life === life ? told.names : new Set<string>()
    for (const name of names) all.add(name)
    this.#told.set(node, { life, names: all })
  }
}
