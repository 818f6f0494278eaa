/** The addon where environments end: worker threads, the end of the process, garbage collection. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { describe, expect, it } from 'vitest'
import { countThreads } from '../../addon/test/native-fixture.js'
import { needsDevice, openDevice } from '../players.js'

needsDevice()

const children = join(import.meta.dirname, '..', 'children')

/** What a child has to know of the device under test. */
function environment(): NodeJS.ProcessEnv {
  const device = openDevice()
  const { name, gid } = device
  device.close()
  return { ...process.env, BACKDOORS_TEST_DEVICE: JSON.stringify({ name, gid: gid.entry }) }
}

async function runWorker(ending: string): Promise<{ code: number; errors: string[] }> {
  const worker = new Worker(join(children, 'worker.mjs'), { workerData: { ending }, env: environment() })
  const errors: string[] = []
  worker.on('error', (error) => errors.push((error).message))
  const ended = new Promise<number>((resolve) => worker.once('exit', resolve))
  await Promise.race([new Promise((resolve) => worker.once('message', resolve)), ended])
  if (ending === 'terminate') await worker.terminate()
  return { code: await ended, errors }
}

async function runProcess(program: string, args: readonly string[], flags: readonly string[] = []): Promise<{ code: number | null; signal: string | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [...flags, join(children, program), ...args], { env: environment(), stdio: ['ignore', 'pipe', 'pipe'] })
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', (bytes: Buffer) => (stdout += bytes.toString()))
  child.stderr.on('data', (bytes: Buffer) => (stderr += bytes.toString()))
  return new Promise((resolve) => {
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }))
  })
}

describe('in worker threads', () => {
  const endings: readonly (readonly [ending: string, code: number, errors: readonly string[]])[] = [
    ['terminate', 1, []],
    ['exit', 0, []],
    ['throw', 1, ['thrown on purpose']],
    ['return', 0, []],
    ['close', 0, []],
    ['close-backwards', 0, []],
  ]
  it.each(endings)('everything at work ends with its worker: %s', async (ending, code, errors) => {
    for (let round = 0; round < 2; round += 1) expect(await runWorker(ending)).toEqual({ code, errors })
    // Only the addon's own: Node and libuv keep threads for later workers.
    expect(countThreads('bd-sampler')).toBe(0)
  })

  it('several at once do not disturb each other', async () => {
    const ended = await Promise.all(['close', 'terminate', 'return'].map(runWorker))
    expect(ended.flatMap(({ errors }) => errors)).toEqual([])
  })
})

describe('at the end of the process', () => {
  const endings: readonly (readonly [ending: string, code: number, stderr: RegExp])[] = [
    ['exit', 0, /^$/],
    ['return', 0, /^$/],
    ['throw', 1, /thrown on purpose/],
    ['close', 0, /^$/],
    ['close-backwards', 0, /^$/],
  ]
  it.each(endings)('nothing crashes or hangs: %s', async (ending, code, stderr) => {
    const ended = await runProcess('process.mjs', [ending])
    expect({ code: ended.code, signal: ended.signal }).toEqual({ code, signal: null })
    expect(ended.stderr).toMatch(stderr)
  })
})

describe('under garbage collection', () => {
  it('what is garbage goes, and a batch keeps what it was made from', async () => {
    const { stdout, stderr, code } = await runProcess('garbage.mjs', [], ['--expose-gc'])
    expect(stderr).toBe('')
    expect(JSON.parse(stdout)).toEqual({ hadDescriptors: true, areAllGone: true, descriptors: 0, kept: 4_096 })
    expect(code).toBe(0)
  })
})
