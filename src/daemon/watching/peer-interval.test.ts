import { once, EventEmitter } from 'node:events'
import { pino } from 'pino'
import { expect, it } from 'vitest'
import type { Watch, WatchPlan } from '../../fabric/remote-memory.js'
import { BytesMemory } from '../../region/testing/bytes-memory.js'
import { Machine } from '../../region/testing/memory-region.js'
import { parseConfig, type PeerConfig } from '../config.js'
import type { PeerFabric, PeerLink } from '../peers/peer-fabric.js'
import { PeerWatcher } from './peer-watcher.js'

/** Tells how often it is to be sampled. */
class Sampled extends BytesMemory {
  readonly plans: WatchPlan[] = []

  override watch(plan: WatchPlan): Watch {
    this.plans.push(plan)
    const state = { cells: [], reachable: true, rounds: 1, failedRounds: 0, maxLatenessUs: 0, lastRoundTripUs: 1, meanRoundTripUs: 1 }
    return { state, update: (next) => void this.plans.push(next), close: () => undefined }
  }
}

const config = parseConfig({ node: 'x', watch: { intervalUs: 2000 }, peers: [{ name: 'a', region: '/a' }, { name: 'b', region: '/b', intervalUs: 20 }, { name: 'c', region: '/c', intervalUs: 5_000_000 }] })

it.each([[0, 2000], [1, 20], [2, 5_000_000]])('peer %d is sampled every %d µs: its own interval, or that of all', async (index, intervalUs) => {
  const memory = new Sampled(new Machine().bytes)
  const link = { header: new Machine().open().header, sampling: memory, recovery: memory, control: () => 'silent', forRecovery: async () => memory, renew: () => undefined, close: async () => undefined } satisfies PeerLink
  const fabric: PeerFabric = {
    keep: (_, handlers) => {
      setImmediate(() => handlers.onLink(link))
      return { close: async () => undefined }
    },
    setMembers: () => undefined, reloadKeys: async () => undefined, close: async () => undefined,
  }
  const events = new EventEmitter()
  const never = (): never => expect.unreachable('there is nothing to do')
  const watcher = new PeerWatcher(config, config.peers[index] as PeerConfig, fabric, {
    onWatching: () => events.emit('watching'), onMachine: never, onVerdict: () => undefined, onCondition: () => undefined, recover: never, lookAtClaim: never,
    members: () => config.peers, observers: undefined, fence: undefined, onFenced: never, log: pino({ level: 'silent' }),
  })
  await once(events, 'watching')
  expect(memory.plans.length).toBeGreaterThan(0)
  for (const plan of memory.plans) expect(plan.intervalUs).toBe(intervalUs)
  await watcher.close()
})
