/** Says how many hardware tests ran, names each that was skipped with its reason, and lets none pass unseen. */
import type { Reporter, TestCase, TestModule } from 'vitest/node'

const exitCodeOfFailure = 1

export class HardwareReporter implements Reporter {
  readonly #required: boolean

  /** @param required no test that ran, or any that was skipped, is a failure */
  constructor(required: boolean) {
    this.#required = required
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()])
    const skipped = tests.filter((test) => test.result().state === 'skipped')
    const ran = tests.filter((test) => ['passed', 'failed'].includes(test.result().state))
    for (const test of skipped) print(`skipped: ${test.fullName}: ${reasonOf(test)}`)
    print(`hardware tests: ${ran.length} ran, ${skipped.length} were skipped`)
    if (!this.#required || (ran.length > 0 && ran.length === tests.length)) return
    print('HWTESTS=required: every test has to run')
    process.exitCode = exitCodeOfFailure
  }
}

function reasonOf(test: TestCase): string {
  const result = test.result()
  return ('note' in result ? result.note : undefined) ?? 'no reason was given'
}

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}
