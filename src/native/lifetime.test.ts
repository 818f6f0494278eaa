/** The addon where environments end: worker threads, process exit, garbage collection. */
import { mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { describe, expect, it } from 'vitest'
import { Child, countThreads, temporaryFolder, until } from '../../addon/test/native-fixture.js'

const workerPath = join(import.meta.dirname, '..', '..', 'addon', 'test', 'children', 'worker.mjs')

interface WorkerEnd {
  readonly code: number
  readonly errors: readonly string[]
}

async function runWorker(path: string, ending: string, intervalUs = 20): Promise<WorkerEnd> {
  const worker = new Worker(workerPath, { workerData: { path, ending, intervalUs } })
  const errors: string[] = []
  worker.on('error', (error) => errors.push(error.message))
  const ended = new Promise<number>((resolve) => worker.once('exit', resolve))
  await Promise.race([new Promise((resolve) => worker.once('message', resolve)), ended])
  if (ending === 'terminate') await worker.terminate()
  return { code: await ended, errors }
}

describe('in worker threads', () => {
  const endings: readonly (readonly [ending: string, code: number, errors: readonly string[]])[] = [
    ['terminate', 1, []],
    ['exit', 0, []],
    ['throw', 1, ['thrown on purpose']],
    ['return', 0, []],
    ['close', 0, []],
  ]
  it.each(endings)('everything at work ends with its worker: %s', async (ending, code, errors) => {
    const folder = temporaryFolder()
    for (let round = 0; round < 5; round += 1) {
      expect(await runWorker(join(folder, `region-${String(round)}`), ending)).toEqual({ code, errors })
    }
    expect([countThreads('bd-sampler'), countThreads('bd-beat'), countThreads('bd-helper')]).toEqual([0, 0, 0])
    expect(readFileSync('/proc/self/maps', 'utf8')).not.toContain(folder)
  })

  it('many at once do not disturb each other', async () => {
    const folder = temporaryFolder()
    const ended = Array.from({ length: 8 }, (_, index) => runWorker(join(folder, String(index)), index % 2 === 0 ? 'terminate' : 'close', 1_000))
    expect((await Promise.all(ended)).flatMap(({ errors }) => errors)).toEqual([])
    expect([countThreads('bd-sampler'), countThreads('bd-beat'), countThreads('bd-helper')]).toEqual([0, 0, 0])
  })
})

describe('at the end of the process', () => {
  const endings: readonly (readonly [ending: string, code: number, stderr: RegExp])[] = [
    ['exit', 0, /^$/],
    ['return', 0, /^$/],
    ['throw', 1, /thrown on purpose/],
    ['listener-throws', 1, /thrown by the listener/],
    ['listener-exits', 3, /^$/],
    ['listener-closes', 0, /^$/],
    ['close-in-any-order', 0, /^$/],
  ]
  it.each(endings)('nothing crashes or hangs: %s', async (ending, code, stderr) => {
    const folder = temporaryFolder()
    for (let round = 0; round < 3; round += 1) {
      const ended = await new Child('process.mjs', [join(folder, `region-${String(round)}`), ending]).ended
      expect({ code: ended.code, signal: ended.signal }).toEqual({ code, signal: null })
      expect(ended.stderr).toMatch(stderr)
    }
  })

  it('a signal ends it', async () => {
    const child = new Child('process.mjs', [join(temporaryFolder(), 'region'), 'wait'])
    expect(await child.line()).toBe('at work')
    child.process.kill('SIGTERM')
    expect((await child.ended).signal).toBe('SIGTERM')
  })
})

describe('under garbage collection', () => {
  it('what is garbage goes, and what is at work stays', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'backdoors-garbage-'))
    const child = new Child('garbage.mjs', [folder], ['--expose-gc'])
    const result = JSON.parse(await child.line()) as Record<string, unknown>
    expect(result).toEqual({
      // 200 memories and 200 readers hold a descriptor each.
      reclaims: { peak: expect.any(Number) as number, isAllGone: true, descriptors: 0, mappings: 0 },
      keepsBuffer: { isCollected: true, isMapped: true, last: 7, inFile: 7 },
      keepsRunning: { areCollected: true, mappings: 0 },
      keepsLock: { isLocked: true },
    })
    expect((await child.ended).code).toBe(0)
  })

  it('a collection in the midst of events harms nothing', async () => {
    const child = new Child('process.mjs', [join(temporaryFolder(), 'region'), 'wait'], ['--gc-interval=20'])
    expect(await child.line()).toBe('at work')
    await until('it still runs', () => child.process.exitCode === null && child.process.signalCode === null)
    child.process.kill('SIGTERM')
    expect((await child.ended).signal).toBe('SIGTERM')
  })
})
