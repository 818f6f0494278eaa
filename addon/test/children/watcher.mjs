/** Watches a counter that does not move, and prints the first event and the state then: node watcher.mjs PATH DEADLINE_US */
import { addon } from './addon.mjs'

const [path, deadlineUs] = process.argv.slice(2)
const sampler = new addon.Sampler((events) => {
  process.stdout.write(`${JSON.stringify({ events: [...events], state: [...sampler.state(target)] })}\n`)
  sampler.close()
})
const cells = [{ counterPosition: 0, pendingPosition: -1, deadlineUs: Number(deadlineUs) }]
const target = sampler.add(new addon.FileReader(path), new Float64Array([0, 8, 0]), cells, 1000, 3.6e9)
const started = setInterval(() => {
  if (sampler.state(target)[1] === 0) return
  clearInterval(started)
  process.stdout.write('sampling\n')
}, 1)
