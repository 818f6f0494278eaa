/** How much is fuzzed: little in every run of the tests, and as much as `BACKDOORS_FUZZ_CASES` says in a thorough one. */

/** For `fc.assert`; `BACKDOORS_SEED` runs other cases. @param usual cases where nobody asks for more */
export const fuzz = (usual: number): { readonly numRuns: number; readonly seed: number } => ({
  numRuns: Number(process.env['BACKDOORS_FUZZ_CASES'] ?? usual),
  seed: Number(process.env['BACKDOORS_SEED'] ?? 1),
})

/** Of a test that fuzzes, in milliseconds: a thorough run takes its time. */
export const fuzzTimeoutMs = 600_000
