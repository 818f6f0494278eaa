/** A host whose whole memory is lent, a recorded one, and whose server has nothing to do: what its kernel does decides what has stopped. */
import { EventEmitter, once } from 'node:events'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { Watch, WatchPlan } from '../../fabric/remote-memory.js'
import type { KernelImage } from '../../kernel/kernel-image.js'
import { PhysicalMemory } from '../../kernel/physical-memory.js'
import { panickedHost, recordedCore } from '../../kernel/testing/panicked-host.js'
import type { RecoveryTarget } from '../../recovery/recover.js'
import { BoxOwner } from '../../region/box-owner.js'
import { BytesMemory } from '../../region/testing/bytes-memory.js'
import { Machine } from '../../region/testing/memory-region.js'
import { parseConfig, type PeerConfig } from '../config.js'
import type { PeerFabric, PeerHandlers } from '../peers/peer-fabric.js'
import { PeerWatcher } from './peer-watcher.js'

const stepUs = 10_000
const config = parseConfig({ node: 'x', peers: [{ name: 'h', region: '/h' }], watch: { osDeadlineMs: 50, refreshMs: 10 } })

/** All of its cells have last moved at the same time. */
class Sampled extends BytesMemory {
  movedAtUs = Infinity

  override watch(plan: WatchPlan): Watch {
    let current = plan
    const cell = (deadlineUs: number) => {
      const ageUs = Math.max(0, nowUs - this.movedAtUs)
      return { counter: 7, pending: 1, ageUs, stalled: ageUs > deadlineUs }
    }
    return {
      get state() {
        return { cells: current.cells.map(({ deadlineUs }) => cell(deadlineUs)), reachable: true, rounds: 1, failedRounds: 0, maxLatenessUs: 0, lastRoundTripUs: 1, meanRoundTripUs: 1 }
      },
      update: (next) => void (current = next),
      close: () => undefined,
    }
  }
}

let nowUs: number
let timers: Set<() => void>
let bytes: Uint8Array
let ram: Sampled
let image: KernelImage
let region: Sampled
let events: EventEmitter<{ machine: [] }>
let told: { kind: string; seen: string }[]
let recovered: RecoveryTarget[]
let watcher: PeerWatcher

beforeEach(async () => {
  const recorded = await panickedHost()
  bytes = recordedCore()
  ram = new Sampled(bytes)
  image = recorded.over(new PhysicalMemory(ram, recorded.physical.spans))
  // As it was before it panicked.
  await poke('panic_cpu', -1)
  await poke('__cpu_online_mask', 0b11)
  const machine = new Machine()
  BoxOwner.take(machine.open(), { name: 'daemon', daemon: true }).sensor({ name: 'os', kind: 'progress', deadlineUs: 50_000 })
  BoxOwner.take(machine.open(), { name: 'web' })
  region = new Sampled(machine.bytes)
  ;[nowUs, timers, events, told, recovered] = [1_000_000, new Set(), new EventEmitter(), [], []]
  const link = { header: machine.open().header, sampling: region, recovery: region, control: () => 'answers' as const, forRecovery: async () => region, renew: () => undefined, close: async () => undefined }
  watcher = watcherOn((handlers) => {
    handlers.onMachine?.({ image, memory: ram, hasRegion: true, control: () => 'answers' })
    handlers.onLink(link)
  })
  await once(events, 'machine')
})

afterEach(() => watcher.close())

function watcherOn(connect: (handlers: PeerHandlers) => void): PeerWatcher {
  const fabric: PeerFabric = {
    keep: (_, handlers) => {
      setImmediate(() => connect(handlers))
      return { close: async () => undefined }
    },
    setMembers: () => undefined, reloadKeys: async () => undefined, close: async () => undefined,
  }
  const never = (): never => expect.unreachable('there is nothing of this to do')
  return new PeerWatcher(config, config.peers[0] as PeerConfig, fabric, {
    onWatching: () => undefined,
    onMachine: () => events.emit('machine'),
    onVerdict: (_, { kind }, { seen }) => told.push({ kind, seen }),
    onCondition: never,
    recover: async (_, target) => void recovered.push(target),
    lookAtClaim: never,
    members: () => config.peers, observers: undefined, fence: undefined, onFenced: never, log: pino({ level: 'silent' }),
  }, {
    nowUs: () => nowUs,
    every: (_, run) => {
      timers.add(run)
      return () => timers.delete(run)
    },
    later: () => () => undefined,
    pause: async () => undefined,
  })
}

async function poke(symbol: string, value: number): Promise<void> {
  const [translation] = await image.memory.translate([image.addressOf(symbol)])
  const { physical } = translation as { physical: number }
  const offset = image.physical.locate({ physical, length: 4 })?.[0]?.offset as number
  new DataView(bytes.buffer, bytes.byteOffset).setInt32(offset, value, true)
}

/** Runs all timers once in each step, and lets each round of looks end; nothing of them leaves this process. */
async function pass(us: number, each: () => Promise<void> = async () => undefined): Promise<void> {
  for (const endUs = nowUs + us; nowUs < endUs;) {
    nowUs += stepUs
    await each()
    for (const run of timers) run()
    await new Promise(setImmediate)
  }
}

/** The kernel goes on. */
const tick = (): Promise<void> => poke('jiffies_64', nowUs / 1000)

const kinds = (): string[] => told.map(({ kind }) => kind)

it('the kernel stops with the daemon: os-stalled, with its word, and the node is recovered', async () => {
  await pass(200_000, tick)
  expect(told).toEqual([])
  region.movedAtUs = nowUs
  await pass(500_000)
  expect(told).toEqual([{ kind: 'os-stalled', seen: 'the OS sensor has not moved for 60000 µs (deadline 50000 µs), and its kernel has stopped: nothing has moved for 60000 µs (deadline 50000 µs), and CPU 0 has its tick on' }])
  expect(recovered).toEqual([{ kind: 'node' }])
})

it('the daemon alone stops: daemon-stalled, and nobody is recovered', async () => {
  region.movedAtUs = nowUs
  await pass(500_000, tick)
  expect(told).toEqual([{ kind: 'daemon-stalled', seen: expect.stringMatching(/, but its kernel moves, or is idle and owes nothing$/) as string }])
  expect(recovered).toEqual([])
})

it('the kernel stops later than the daemon: os-stalled then, and the node is recovered', async () => {
  region.movedAtUs = nowUs
  await pass(300_000, tick)
  expect(kinds()).toEqual(['daemon-stalled'])
  await pass(300_000)
  expect(kinds()).toEqual(['daemon-stalled', 'os-stalled'])
  expect(recovered).toEqual([{ kind: 'node' }])
})

it('the kernel cannot be read: daemon-stalled, for nothing tells the two apart', async () => {
  ram.readMany = () => Promise.reject(new Error('not now'))
  region.movedAtUs = nowUs
  await pass(500_000)
  expect(told).toEqual([{ kind: 'daemon-stalled', seen: expect.stringMatching(/, and no server's sensor has to move$/) as string }])
  expect(recovered).toEqual([])
})
