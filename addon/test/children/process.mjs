/** Starts everything, and ends as its argument says: node process.mjs PATH ENDING */
import { startEverything, until } from './addon.mjs'

const [path, ending] = process.argv.slice(2)
let events = 0
const everything = startEverything(path, () => {
  events += 1
  if (ending === 'listener-throws') throw new Error('thrown by the listener')
  if (ending === 'listener-exits') process.exit(3)
  if (ending === 'listener-closes') Object.values(everything).forEach((each) => each.close?.())
})
await until(() => events > 2 || ending === 'listener-closes')
process.stdout.write('at work\n')
switch (ending) {
  case 'exit':
    process.exit(0)
    break
  case 'throw':
    throw new Error('thrown on purpose')
  case 'return':
    // What is left open and running (a beat thread, memory) does not keep the process alive.
    everything.sampler.remove(everything.target)
    break
  case 'close-in-any-order':
    everything.memory.close()
    everything.reader.close()
    await until(() => everything.beat.beats > 0)
    everything.beat.close()
    everything.sampler.close()
    break
  case 'wait':
    setInterval(() => {}, 1000)
    break
}
