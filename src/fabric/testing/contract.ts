/** The contract of `RemoteMemory`, as tests that every backend passes. */
import { afterEach, beforeEach, describe } from 'vitest'
import { describeReading } from './contract-reading.js'
import { describeClosing } from './contract-closing.js'
import { describeWatching } from './contract-watching.js'
import { describeWriting } from './contract-writing.js'
import type { MakeMemoryFixture, MemoryFixture } from './memory-fixture.js'

/** Real backends wait for real events: far longer than they take, so that only a lost event fails. */
const timeoutMs = 60_000

/**
 * @param name the backend's
 * @param makeFixture makes a memory for one test; the suite closes it.
 */
export function describeRemoteMemoryContract(name: string, makeFixture: MakeMemoryFixture): void {
  describe(`RemoteMemory contract: ${name}`, { timeout: timeoutMs }, () => {
    let fixture: MemoryFixture | undefined
    beforeEach(async () => {
      fixture = await makeFixture()
    }, timeoutMs)
    afterEach(async () => {
      await fixture?.close()
      fixture = undefined
    }, timeoutMs)
    const current = (): MemoryFixture => {
      if (fixture === undefined) throw new Error('the fixture has not been made')
      return fixture
    }
    describeReading(current)
    describeWriting(current)
    describeClosing(current)
    describeWatching(current)
  })
}
