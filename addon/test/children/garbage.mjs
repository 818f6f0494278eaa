/** What is garbage, and what is not: node --expose-gc garbage.mjs FOLDER. Prints one JSON object. */
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { addon, startEverything, until } from './addon.mjs'

const folder = process.argv[2]
const descriptors = () => readdirSync('/proc/self/fd').length
const mappings = (path) => readFileSync('/proc/self/maps', 'utf8').split('\n').filter((line) => line.includes(path)).length

const nextTurn = () => new Promise((resolve) => setImmediate(resolve))

/** Finalizers run in turns of the event loop after a collection. */
async function collect(rounds) {
  for (let round = 0; round < rounds; round += 1) {
    // What a WeakRef gave is held until the turn ends in which it did.
    await nextTurn()
    globalThis.gc()
    await nextTurn()
  }
}

async function collectUntil(condition) {
  for (let round = 0; round < 200 && !condition(); round += 1) await collect(1)
  return condition()
}

function makeGarbage(path) {
  const made = []
  for (let round = 0; round < 200; round += 1) {
    const memory = new addon.SharedMemory({ path, create: round === 0, length: 65536 })
    new Uint8Array(memory.buffer)[0] = round
    const reader = new addon.FileReader(path)
    const sampler = new addon.Sampler(() => {})
    made.push(new WeakRef(memory), new WeakRef(reader), new WeakRef(sampler))
  }
  return made
}

async function reclaims() {
  const path = join(folder, 'garbage')
  const before = descriptors()
  const made = makeGarbage(path)
  const peak = descriptors() - before
  const isAllGone = await collectUntil(() => made.every((each) => each.deref() === undefined) && descriptors() <= before && mappings(path) === 0)
  return { peak, isAllGone, descriptors: descriptors() - before, mappings: mappings(path) }
}

async function keepsBuffer() {
  const path = join(folder, 'buffer')
  let memory = new addon.SharedMemory({ path, create: true, length: 65536 })
  const bytes = new Uint8Array(memory.buffer)
  const weak = new WeakRef(memory)
  memory = undefined
  const isCollected = await collectUntil(() => weak.deref() === undefined)
  bytes.fill(7)
  return { isCollected, isMapped: mappings(path) > 0, last: bytes.at(-1), inFile: readFileSync(path).at(-1) }
}

async function keepsRunning() {
  const path = join(folder, 'running')
  let events = 0
  const weak = (() => {
    const { beat, sampler } = startEverything(path, () => (events += 1))
    return { beat: new WeakRef(beat), sampler: new WeakRef(sampler) }
  })()
  await collect(20)
  const [seen, beats] = [events, weak.beat.deref()?.beats]
  await until(() => events > seen + 2 && weak.beat.deref()?.beats > beats)
  weak.beat.deref().close()
  weak.sampler.deref().close()
  const areCollected = await collectUntil(() => weak.beat.deref() === undefined && weak.sampler.deref() === undefined && mappings(path) === 0)
  return { areCollected, mappings: mappings(path) }
}

async function keepsLock() {
  const path = join(folder, 'locked')
  const other = new addon.SharedMemory({ path, create: true, length: 4096 })
  let holder = new addon.SharedMemory({ path })
  holder.lockBytes(0, 8)
  holder = undefined
  await collect(10)
  return { isLocked: other.isLocked(0, 8) }
}

const result = { reclaims: await reclaims(), keepsBuffer: await keepsBuffer(), keepsRunning: await keepsRunning(), keepsLock: await keepsLock() }
process.stdout.write(`${JSON.stringify(result)}\n`)
rmSync(folder, { recursive: true })
