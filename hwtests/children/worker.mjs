/** Runs in a worker thread: everything at work, which ends as it is told. */
import { parentPort, workerData } from 'node:worker_threads'
import { closeEverything, startEverything } from './verbs.mjs'

let events = 0
const everything = startEverything(() => (events += 1))
for (let round = 0; round < 50; round += 1) {
  everything.batch.runSync()
  await everything.batch.run()
}
while (events === 0) await new Promise((resolve) => setTimeout(resolve, 1))
parentPort.postMessage('at work')
// A run is under way at every ending.
everything.batch.run()?.catch(() => {})
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
    everything.sampler.remove(0)
    break
  case 'close':
    for (const backwards of [false, true, false]) closeEverything(everything, backwards)
    break
  case 'close-backwards':
    for (const backwards of [true, false]) closeEverything(everything, backwards)
    break
}
