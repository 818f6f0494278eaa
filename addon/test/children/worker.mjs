/** Runs in a worker thread: starts everything, and ends as it is told. */
import { parentPort, workerData } from 'node:worker_threads'
import { startEverything, until } from './addon.mjs'

let events = 0
const { sampler, beat, memory, reader } = startEverything(workerData.path, () => (events += 1), workerData.intervalUs)
await until(() => events > 2)
// It is never ended: a thread may still read when all else ends.
reader.beginSummed(Float64Array.of(0, 65536, 0), 1, new Uint8Array(65536), 0, 0, new Int32Array(1))
parentPort.postMessage('at work')
switch (workerData.ending) {
  case 'terminate':
    setInterval(() => {}, 1000)
    break
  case 'exit':
    process.exit(0)
    break
  case 'throw':
    throw new Error('thrown on purpose')
  case 'return':
    // The sampler alone would keep the thread alive; everything stays open.
    sampler.remove(0)
    break
  case 'close':
    for (const each of [sampler, beat, memory, reader, sampler, beat, memory, reader]) each.close()
    break
}
