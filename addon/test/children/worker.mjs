/** Runs in a worker thread: starts everything, and ends as it is told. */
import { parentPort, workerData } from 'node:worker_threads'
import { startEverything, until } from './addon.mjs'

let events = 0
const { sampler, beat, memory } = startEverything(workerData.path, () => (events += 1), workerData.intervalUs)
await until(() => events > 2)
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
    for (const each of [sampler, beat, memory, sampler, beat, memory]) each.close()
    break
}
