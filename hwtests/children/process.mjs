/** A process that ends as it is told, with everything at work: node process.mjs ENDING. */
import { closeEverything, startEverything } from './verbs.mjs'

const everything = startEverything()
for (let round = 0; round < 20; round += 1) await everything.batch.run()
everything.batch.run()?.catch(() => {})
switch (process.argv[2]) {
  case 'exit':
    process.exit(0)
    break
  case 'return':
    everything.sampler.remove(0)
    break
  case 'throw':
    throw new Error('thrown on purpose')
  case 'close':
    closeEverything(everything, false)
    break
  case 'close-backwards':
    closeEverything(everything, true)
    break
}
