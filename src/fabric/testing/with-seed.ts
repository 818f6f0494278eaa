/** Runs a test's body with a seed, and says the seed when it fails. */

/** Replays one seed only: `BACKDOORS_SEED=42 npx vitest run …`. */
const seedVariable = 'BACKDOORS_SEED'

function wantedSeed(): number | undefined {
  const text = process.env[seedVariable]
  return text === undefined || text === '' ? undefined : Number(text)
}

/**
 * @param seed the seed, unless the environment variable BACKDOORS_SEED asks for another.
 * @throws Error with the seed in its message, and what `body` threw as its cause.
 * @example
 * it('recovers every session', () => withSeed(1, async (seed) => { const simulation = new Simulation(seed) … }))
 */
export async function withSeed<T>(seed: number, body: (seed: number) => Promise<T> | T): Promise<T> {
  const used = wantedSeed() ?? seed
  try {
    return await body(used)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new Error(`${reason}\nwith seed ${String(used)}; replay it with ${seedVariable}=${String(used)}`, { cause: error })
  }
}

/** Runs the body with `count` seeds in a row from `first` on, or with the one that BACKDOORS_SEED asks for. */
export async function withSeeds(first: number, count: number, body: (seed: number) => Promise<void> | void): Promise<void> {
  const only = wantedSeed()
  const seeds = only === undefined ? Array.from({ length: count }, (_, index) => first + index) : [only]
  for (const seed of seeds) await withSeed(seed, body)
}
