/** How much is fuzzed: little in every run of the tests, and as much as `BACKDOORS_FUZZ_CASES` says in a thorough one. */
import { fuzzSeed } from '../../fabric/testing/fuzz-seed.js'

/** For `fc.assert`. @param usual cases where nobody asks for more */
export const fuzz = (usual: number): { readonly numRuns: number; readonly seed: number } => ({
  numRuns: Number(process.env['BACKDOORS_FUZZ_CASES'] ?? usual),
  seed: fuzzSeed(),
})

/** Of a test that fuzzes, in milliseconds: a thorough run takes its time. */
export const fuzzTimeoutMs = 600_000
