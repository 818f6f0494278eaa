/** The addon as a child process or a worker loads it, without TypeScript: a loopback connection at work. */
import { createRequire } from 'node:module'
import { join } from 'node:path'

const folder = process.env.BACKDOORS_ADDON_DIR ?? join(import.meta.dirname, '..', '..', 'build', 'Release')
const load = (target) => {
  const addon = createRequire(import.meta.url)(join(folder, `${target}.node`))
  addon.initialize((code, message, details) => Object.assign(new Error(message), { code, details }))
  return addon
}
const memory = load('memory')
const verbs = load('verbs')

const settings = {
  depth: 16, port: 1, pkeyIndex: 0, psn: 1, timeout: 12, retryCount: 3, rnrRetry: 7, minRnrTimer: 12, trafficClass: 0,
  hopLimit: 64, serviceLevel: 0,
}

/** Of no closure: a listener that knows its context keeps it from being garbage. */
const ignoreEvents = () => {}

/** Everything there is, each part made from those before it. */
export function startEverything(onEvent = () => {}) {
  const { name, gid } = JSON.parse(process.env.BACKDOORS_TEST_DEVICE)
  const shared = new memory.SharedMemory({ create: true, memfd: true, path: 'child', length: 65536 })
  const context = new verbs.Context(name, ignoreEvents)
  const domain = new verbs.ProtectionDomain(context)
  const lent = new verbs.MemoryRegion(domain, { memory: shared, access: 4 })
  const target = new verbs.MemoryRegion(domain, { length: 4096 })
  const make = (peer, access) => {
    const queue = new verbs.CompletionQueue(context, 16)
    return { queue, pair: new verbs.QueuePair(domain, queue, { ...settings, peer, access, gidIndex: gid.index }) }
  }
  const [asking, answering] = [make('answering', 0), make('asking', 4)]
  const remote = (pair) => ({ qpn: pair.qpn, psn: 1, gid: gid.gid, lid: 0, mtu: 1024, maxRdAtomic: 8, maxDestRdAtomic: 8 })
  asking.pair.setWindows([{ offset: 0, length: 65536, address: lent.address, rkey: lent.rkey, access: 'read' }])
  asking.pair.connect(remote(answering.pair))
  answering.pair.connect(remote(asking.pair))
  const batch = new verbs.WorkBatch(asking.pair, target, 64, 5e6)
  const sampled = new verbs.WorkBatch(asking.pair, target, 1, 5e6)
  batch.prepare(4, Float64Array.from(Array.from({ length: 64 }, (_, index) => [0, index * 64, index * 64, 64]).flat()), 64)
  sampled.prepare(4, Float64Array.from([0, 0, 0, 64]), 1)
  const sampler = new verbs.Sampler(onEvent)
  sampler.add(sampled, [{ counterPosition: 0, pendingPosition: -1, deadlineUs: 100 }], 100, 1e6)
  return { shared, context, domain, lent, target, asking, answering, batch, sampled, sampler }
}

/** In an order in which nothing is closed after what it was made from, or in the very opposite. */
export function closeEverything({ shared, context, domain, lent, target, asking, answering, batch, sampled, sampler }, backwards) {
  const all = [sampler, sampled, batch, asking.pair, answering.pair, asking.queue, answering.queue, target, lent, domain, context, shared]
  for (const each of backwards ? all.reverse() : all) each.close()
}
