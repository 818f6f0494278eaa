/** What nobody holds goes, in whatever order: node --expose-gc garbage.mjs. Prints one JSON object. */
import { readdirSync } from 'node:fs'
import { startEverything } from './verbs.mjs'

const rounds = 10
const descriptors = () => readdirSync('/proc/self/fd').length
const nextTurn = () => new Promise((resolve) => setImmediate(resolve))

async function collectUntil(condition) {
  for (let round = 0; round < 200 && !condition(); round += 1) {
    await nextTurn()
    globalThis.gc()
    await nextTurn()
  }
  return condition()
}

async function makeGarbage() {
  const made = []
  for (let round = 0; round < rounds; round += 1) {
    const everything = startEverything()
    await everything.batch.run()
    everything.sampler.close()
    // Some go with a run under way.
    everything.batch.run()?.catch(() => {})
    made.push(...[everything.context, everything.domain, everything.lent, everything.asking.pair, everything.asking.queue, everything.batch].map((each) => new WeakRef(each)))
  }
  return made
}

/** A batch alone keeps all that it needs. */
async function keepsParents() {
  const { batch, target, sampler } = startEverything()
  sampler.close()
  const bytes = new Uint8Array(target.buffer)
  for (let round = 0; round < 20; round += 1) await collectUntil(() => true)
  await batch.run()
  return bytes.length
}

// Opened at its first use, which is not to be counted.
const { stdout } = process
const before = descriptors()
const made = await makeGarbage()
const peak = descriptors() - before
const areAllGone = await collectUntil(() => made.every((each) => each.deref() === undefined) && descriptors() <= before)
stdout.write(`${JSON.stringify({ hadDescriptors: peak > 0, areAllGone, descriptors: descriptors() - before, kept: await keepsParents() })}\n`)
process.exit(0)
