/**
 * The seed of the tests that fuzz: the same in every run, so that a red one can be repeated, unless `BACKDOORS_FUZZ_SEED` asks for other cases.
 * CI asks for others each time, and says which.
 * @throws Error where it is no whole number of 32 bits: it would not be the run that was asked for
 */
export function fuzzSeed(wanted = process.env['BACKDOORS_FUZZ_SEED']): number {
  if (wanted === undefined || wanted === '') return 1
  const seed = Number(wanted)
  if (!/^-?\d+$/.test(wanted) || seed !== (seed | 0)) throw new Error(`BACKDOORS_FUZZ_SEED must be a whole number of 32 bits, not ${JSON.stringify(wanted)}`)
  return seed
}
