/** Nodes b and c watch a; links are cut and a dies. Each asks the other before it says anything. */
import { once, EventEmitter } from 'node:events'
import { pino } from 'pino'
import { afterEach, describe, expect, it } from 'vitest'
import { BackdoorsError } from '../../errors.js'
import type { Watch, WatchEvent, WatchPlan } from '../../fabric/remote-memory.js'
import type { Opinion } from '../../monitor/second-opinion.js'
import type { ControlConnection, Evidence } from '../../monitor/verdict.js'
import { BoxOwner, markExited } from '../../region/box-owner.js'
import { BytesMemory } from '../../region/testing/bytes-memory.js'
import { Machine } from '../../region/testing/memory-region.js'
import { parseConfig, type DaemonConfig } from '../config.js'
import { systemTime, type DaemonTime } from '../daemon-time.js'
import { observeHandler, observeMethod, Observers, type ObserverChannel } from './observers.js'
import type { PeerFabric, PeerHandlers, PeerLink } from '../peers/peer-fabric.js'
import { PeerWatcher, type PeerWatcherEvents } from './peer-watcher.js'

const closers: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0)) await close()
})

/** The way from a watcher to a's memory. */
class Way extends BytesMemory {
  isOpen = true
  #listener: ((event: WatchEvent) => void) | undefined

  override readMany(ranges: Parameters<BytesMemory['readMany']>[0]): Promise<Uint8Array[]> {
    return this.isOpen ? super.readMany(ranges) : Promise.reject(new BackdoorsError('WC_RETRY_EXC_ERR', 'nobody answers'))
  }

  override watch(plan: WatchPlan, listener: (event: WatchEvent) => void): Watch {
    this.#listener = listener
    const stateOf = ({ cells }: WatchPlan): Watch['state'] => ({
      cells: cells.map(() => ({ counter: 7, pending: 1, ageUs: 0, stalled: false })),
      reachable: this.isOpen, rounds: 1, failedRounds: 0, maxLatenessUs: 0, lastRoundTripUs: 1, meanRoundTripUs: 1,
    })
    let current = plan
    return {
      get state() {
        return stateOf(current)
      },
      update: (next) => void (current = next),
      close: () => (this.#listener = undefined),
    }
  }

  cut(): void {
    this.isOpen = false
    this.#listener?.({ kind: 'unreachable', status: 'WC_RETRY_EXC_ERR', sinceUs: 0, atUs: 0 })
  }

  mend(): void {
    this.isOpen = true
    this.#listener?.({ kind: 'reachable', atUs: 0 })
  }
}

interface Watcher {
  readonly way: Way
  readonly watcher: PeerWatcher
  readonly events: EventEmitter<{ verdict: [kind: string, evidence: Evidence]; fenced: [opinions: readonly Opinion[], error: unknown] }>
  readonly told: string[]
  fenced: number
  /** It is connected anew. */
  relink: () => void
}

const configOf = (node: string, peers: readonly string[]): DaemonConfig => parseConfig({
  node, peers: peers.map((name) => ({ name, region: `/${name}` })),
  recovery: { fence: { command: ['fence'] }, fenceUnreachable: true },
})

interface WatcherSettings {
  readonly control?: ControlConnection | (() => ControlConnection)
  readonly isKnown?: boolean
  readonly recover?: PeerWatcherEvents['recover']
  readonly time?: DaemonTime
}

function watcherOf(node: string, machine: Machine, channels: ReadonlyMap<string, ObserverChannel> | undefined, peers: readonly string[] = ['a', 'b', 'c'], { control = 'silent', isKnown = true, recover, time }: WatcherSettings = {}): Watcher {
  const way = new Way(machine.bytes)
  const { header } = machine.open()
  const link: PeerLink = { header, sampling: way, recovery: way, control: () => (typeof control === 'function' ? control() : control), forRecovery: async () => way, renew: () => undefined, close: async () => undefined }
  let relink = (): void => expect.unreachable('nobody is connected yet')
  const fabric: PeerFabric = {
    keep: (_, handlers: PeerHandlers) => {
      relink = () => handlers.onLink({ ...link })
      setImmediate(() => handlers.onLink(link))
      return { close: async () => undefined }
    },
    setMembers: () => undefined,
    reloadKeys: async () => undefined,
    close: async () => undefined,
  }
  const config = configOf(node, peers.filter((name) => name !== node))
  const made: Watcher = { way, events: new EventEmitter(), told: [], fenced: 0, relink: () => relink(), watcher: undefined as unknown as PeerWatcher }
  const watcher = new PeerWatcher(config, config.peers[0] as DaemonConfig['peers'][number], fabric, {
    onWatching: () => undefined,
    onMachine: () => undefined,
    onVerdict: (_, { kind }, evidence) => {
      made.told.push(kind)
      made.events.emit('verdict', kind, evidence)
    },
    onCondition: () => undefined,
    recover: recover ?? (() => Promise.reject(new Error('nobody is to be recovered'))),
    lookAtClaim: () => Promise.reject(new Error('nobody has claimed anything')),
    members: () => (isKnown ? config.peers : undefined),
    observers: channels && new Observers(() => channels, 60_000),
    fence: async () => void made.fenced++,
    onFenced: (_, opinions, error) => made.events.emit('fenced', opinions, error),
    log: pino({ level: 'silent' }),
  }, time)
  closers.push(() => watcher.close())
  return Object.assign(made, { watcher })
}

/** Node a, with its daemon's box. */
function nodeA(): Machine {
  const machine = new Machine()
  BoxOwner.take(machine.open(), { name: 'daemon', daemon: true }).sensor({ name: 'os', kind: 'progress', deadlineUs: 50_000 })
  return machine
}

/** b and c, who can ask each other. */
async function twoWatchers(): Promise<{ b: Watcher; c: Watcher }> {
  const machine = nodeA()
  const watchers = new Map<string, Watcher>()
  const to = (name: string): ObserverChannel => ({
    request: async (method, body) => {
      expect(method).toBe(observeMethod)
      return await observeHandler((node) => (node === 'a' ? watchers.get(name)?.watcher : undefined), 60_000)(JSON.parse(JSON.stringify(body)), { peer: 'x', signal: new AbortController().signal })
    },
  })
  const b = watcherOf('b', machine, new Map([['c', to('c')]]))
  const c = watcherOf('c', machine, new Map([['b', to('b')]]))
  watchers.set('b', b).set('c', c)
  while (!b.watcher.watch?.observe().osSensor || !c.watcher.watch?.observe().osSensor) await new Promise(setImmediate)
  return { b, c }
}

describe('a link that is cut between two', () => {
  it('is told as that, by whom it concerns alone, with who still reads the node; it is not down, and not fenced', async () => {
    const { b, c } = await twoWatchers()
    const verdict = once(b.events, 'verdict')
    b.way.cut()
    const [kind, evidence] = (await verdict) as [string, Evidence]
    expect(kind).toBe('link-cut')
    expect(evidence).toMatchObject({ by: 'b', seen: expect.stringContaining('from here, but c still reaches it') as string, opinions: [{ by: 'c', sees: 'sees-alive', verdict: 'alive' }] })
    expect([b.watcher.verdict.kind, b.watcher.isDown, b.fenced, c.told]).toEqual(['link-cut', false, 0, []])
  })

  it('and mended is alive', async () => {
    const { b } = await twoWatchers()
    const cut = once(b.events, 'verdict')
    b.way.cut()
    await cut
    const alive = once(b.events, 'verdict')
    b.way.mend()
    expect((await alive)[0]).toBe('alive')
    expect([b.told, b.watcher.verdict.kind]).toEqual([['link-cut', 'alive'], 'alive'])
  })
})

describe('a node that has stopped behind a link that is cut', () => {
  it('is not fenced, but counts as down: who reaches it says that it has stopped', async () => {
    const c: ObserverChannel = { request: () => Promise.resolve({ sees: 'sees-alive', verdict: 'os-stalled' }) }
    const b = watcherOf('b', nodeA(), new Map([['c', c]]))
    while (!b.watcher.watch?.observe().osSensor) await new Promise(setImmediate)
    const verdict = once(b.events, 'verdict')
    b.way.cut()
    expect((await verdict)[0]).toBe('link-cut')
    expect([b.watcher.verdict.kind, b.watcher.isDown, b.fenced]).toEqual(['link-cut', true, 0])
  })
})

describe('a recovery that fails', () => {
  /** Of a server on a that has exited. */
  async function failing(): Promise<{ b: Watcher; pass: (us: number) => void; loseDaemon: () => void; retries: (() => void)[] }> {
    const machine = nodeA()
    const region = machine.open()
    const { box, generation } = BoxOwner.take(region, { name: 'web' })
    machine.kill(region)
    markExited(machine.open(), box, generation)
    let nowUs = 0
    const retries: (() => void)[] = []
    const later: DaemonTime['later'] = (ms, run) => {
      if (ms === 1000) retries.push(run)
      return () => undefined
    }
    let control: ControlConnection = 'answers'
    const b = watcherOf('b', machine, undefined, ['a', 'b'], { control: () => control, recover: () => Promise.resolve(undefined), time: { ...systemTime, nowUs: () => nowUs, later } })
    while (!b.told.includes('app-exited') || !b.watcher.isBusy) await new Promise(setImmediate)
    await new Promise(setImmediate)
    return { b, pass: (us) => (nowUs += us), loseDaemon: () => (control = 'reset'), retries }
  }

  it('keeps its watcher for two minutes, and no longer, should the peer be no member any more', async () => {
    const { b, pass } = await failing()
    pass(119_999_999)
    expect(b.watcher.isBusy).toBe(true)
    pass(1)
    expect(b.watcher.isBusy).toBe(false)
  })

  it('keeps no watcher where the peer\'s daemon has ended: its memory is lent no more', async () => {
    const { b, loseDaemon } = await failing()
    expect(b.watcher.isBusy).toBe(true)
    const verdict = once(b.events, 'verdict')
    loseDaemon()
    b.way.cut()
    expect((await verdict)[0]).toBe('daemon-lost')
    expect(b.watcher.isBusy).toBe(false)
  })

  it('is owed by the link of that time alone: what it had begun to wait for changes nothing in what a later link owes', async () => {
    const { b, retries } = await failing()
    b.relink()
    expect(b.watcher.isBusy).toBe(false)
    while (retries.length < 2) await new Promise(setImmediate)
    retries[0]?.()
    expect(b.watcher.isBusy).toBe(true)
  })
})

describe('a node that is dead', () => {
  it('is unreachable for all, each told by the others, and is fenced from outside', { timeout: 30_000 }, async () => {
    const { b, c } = await twoWatchers()
    const fenced = once(b.events, 'fenced')
    b.way.isOpen = false
    c.way.isOpen = false
    b.way.cut()
    c.way.cut()
    expect((await fenced) as unknown[]).toEqual([[{ by: 'c', sees: 'sees-unreachable', verdict: 'unreachable' }], undefined])
    expect([b.told, b.watcher.isDown, b.fenced]).toEqual([['unreachable'], true, 1])
  })
})

describe('where nobody can be asked', () => {
  it('a cluster of two fences on its own', async () => {
    const b = watcherOf('b', nodeA(), undefined, ['a', 'b'])
    while (!b.watcher.watch?.observe().osSensor) await new Promise(setImmediate)
    const fenced = once(b.events, 'fenced')
    b.way.cut()
    expect(await fenced).toEqual([[], undefined])
    expect(b.told).toEqual(['unreachable'])
  })

  it('nobody fences who has not learnt yet how large the cluster is', async () => {
    const b = watcherOf('b', nodeA(), undefined, ['a', 'b'], { isKnown: false })
    while (!b.watcher.watch?.observe().osSensor) await new Promise(setImmediate)
    const verdict = once(b.events, 'verdict')
    b.way.cut()
    expect((await verdict)[0]).toBe('unreachable')
    await b.watcher.close()
    expect(b.fenced).toBe(0)
  })

  it('a larger one does not', async () => {
    const b = watcherOf('b', nodeA(), undefined)
    while (!b.watcher.watch?.observe().osSensor) await new Promise(setImmediate)
    const verdict = once(b.events, 'verdict')
    b.way.cut()
    expect((await verdict)[0]).toBe('unreachable')
    await b.watcher.close()
    expect(b.fenced).toBe(0)
  })
})

describe('a node whose daemon is gone', () => {
  it('is daemon-lost, and nobody is asked', async () => {
    const asked: ObserverChannel = { request: () => Promise.reject(new Error('nobody is to be asked')) }
    const b = watcherOf('b', nodeA(), new Map([['c', asked]]), ['a', 'b', 'c'], { control: 'reset' })
    while (!b.watcher.watch?.observe().osSensor) await new Promise(setImmediate)
    const verdict = once(b.events, 'verdict')
    b.way.cut()
    expect(await verdict).toMatchObject(['daemon-lost', {}])
  })
})
