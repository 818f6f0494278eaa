import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { RecoveryReport } from '../recovery/recover.js'
import { BoxOwner } from '../region/box-owner.js'
import { encodeClaim, type ClaimStep } from '../region/control.js'
import { controlPairOffset } from '../region/layout.js'
import { openRegion } from '../region/region.js'
import { attach, type AttachedNode } from '../servers/attach.js'
import { bytesCodec } from '../servers/codec.js'
import { freePort } from '../servers/free-port.js'
import { fromDaemon, readMessages, socketPathOf, writeMessage, type FromDaemon, type ToDaemon } from '../servers/local-protocol.js'
import { nodeNumber, type DaemonConfigInput } from './config.js'
import { startDaemon, type Daemon } from './daemon.js'
import { FakeNode, testDeadlineMs, testGeometry } from './testing/fake-node.js'

let folder: string
let closers: (() => Promise<void> | void)[]
const pathOf = (node: string): string => join(folder, node)

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'backdoors-daemon-'))
  closers = []
})

afterEach(async () => {
  for (const close of closers.reverse()) await close()
  rmSync(folder, { recursive: true, force: true })
})

async function daemon(node: string, peers: readonly string[], more: Partial<DaemonConfigInput> = {}): Promise<Daemon> {
  const { boxCount, ...geometry } = testGeometry
  const started = await startDaemon({
    node,
    cluster: 'test',
    region: { path: pathOf(node), boxes: boxCount, ...geometry },
    peers: peers.map((name) => ({ name, region: pathOf(name) })),
    watch: { peers: 3, intervalUs: 500, osDeadlineMs: testDeadlineMs, refreshMs: 20 },
    log: 'silent',
    ...more,
  })
  closers.push(() => started.close())
  return started
}

function fake(node: string): FakeNode {
  const made = new FakeNode(node, pathOf(node))
  closers.push(() => made.close())
  return made
}

async function server(node: string): Promise<AttachedNode> {
  const attached = await attach({ region: pathOf(node), name: 'web' })
  closers.push(() => attached.close())
  return attached
}

const text = (bytes: Uint8Array | undefined): string => new TextDecoder().decode(bytes)

async function untilWatched(watcher: Daemon, peer: string): Promise<void> {
  while ((watcher.status().peers.find((status) => status.peer === peer)?.servers?.[0]?.sensors.length ?? 0) === 0) await new Promise(setImmediate)
}

describe('a node whose memory stops moving', () => {
  it('is fenced and recovered, and its sessions are served by a local server', async () => {
    const a = fake('a')
    a.commit('u1', 'one apple')
    const b = await daemon('b', ['a'])
    const web = await server('b')
    const carts = web.sessions<Uint8Array>('carts', { codec: bytesCodec })
    await untilWatched(b, 'a')
    a.commit('u2', 'two pears')
    const adopted = once(carts, 'adopted')
    const taken = once(b, 'taken')
    const recovered = once(b, 'recovered')
    a.stop()
    const [report] = (await recovered) as [RecoveryReport]
    expect(report).toMatchObject({ peer: 'a', outcome: 'announced', found: 2, adopted: 2, refused: 0, corrupt: 0, stale: 0 })
    expect((await adopted)[0]).toMatchObject({ from: 'a', ids: ['u1', 'u2'] })
    expect([text(carts.get('u1')), text(carts.get('u2'))]).toEqual(['one apple', 'two pears'])
    expect(() => a.commit('u1', 'three')).toThrow(expect.objectContaining({ code: 'FENCED' }))
    expect(await taken).toEqual(['web', 2])
    expect(b.status().waitingSessions).toBe(0)
  })

  it('is recovered by exactly one of two watchers', async () => {
    const a = fake('a')
    a.commit('u1', 'one apple')
    const watchers = await Promise.all([daemon('b', ['a', 'c']), daemon('c', ['a', 'b'])])
    await Promise.all(watchers.map((watcher) => untilWatched(watcher, 'a')))
    const reports = watchers.map(async (watcher) => ((await once(watcher, 'recovered')) as [RecoveryReport])[0])
    a.stop()
    const outcomes = (await Promise.all(reports)).map(({ outcome }) => outcome)
    expect(outcomes.sort()).toEqual(['announced', 'claimed-by-other'])
  })

  it('keeps its sessions in the daemon until a server asks for their store', async () => {
    const a = fake('a')
    a.commit('u1', 'one apple')
    const b = await daemon('b', ['a'])
    await untilWatched(b, 'a')
    a.stop()
    await once(b, 'recovered')
    expect(b.status().waitingSessions).toBe(1)
    const carts = (await server('b')).sessions<Uint8Array>('carts', { codec: bytesCodec })
    await once(carts, 'adopted')
    expect(text(carts.get('u1'))).toBe('one apple')
  })
})

describe('who is watched', () => {
  const watchedBy = (watcher: Daemon): string[] => watcher.status().peers.map(({ peer }) => peer)
  const until = async (isTrue: () => boolean): Promise<void> => {
    while (!isTrue()) await new Promise((resolve) => setTimeout(resolve, 5))
  }
  const one = { watch: { peers: 1, intervalUs: 500, osDeadlineMs: testDeadlineMs, refreshMs: 20 } }

  it('is the next node that is up, beside those that are down', async () => {
    const [b, c] = [fake('b'), fake('c')]
    c.commit('u1', 'one apple')
    const a = await daemon('a', ['b', 'c', 'd'], one)
    await untilWatched(a, 'b')
    expect(watchedBy(a)).toEqual(['b'])
    const first = once(a, 'recovered')
    b.stop()
    expect((await first)[0]).toMatchObject({ peer: 'b', outcome: 'announced' })
    // A second failure, of a node that this one had nothing to do with before.
    await untilWatched(a, 'c')
    const second = once(a, 'recovered')
    c.stop()
    expect((await second)[0]).toMatchObject({ peer: 'c', outcome: 'announced', adopted: 1 })
    await until(() => watchedBy(a).includes('d'))
    // Nobody is there by that name; and who is back is watched beside the others.
    rmSync(pathOf('b'))
    fake('b')
    await until(() => a.status().peers.find(({ peer }) => peer === 'b')?.verdict === 'alive')
    expect(watchedBy(a)).toEqual(['b', 'c', 'd'])
  })

  it('is somebody else, when a node has ended in order', async () => {
    const b = await daemon('b', [])
    fake('c')
    const a = await daemon('a', ['b', 'c'], one)
    await until(() => a.status().peers[0]?.connected === true)
    await b.close()
    await untilWatched(a, 'c')
    expect(watchedBy(a)).toEqual(['b', 'c'])
  })
})

describe('a daemon that is started anew', () => {
  it('offers what its earlier life adopted when the servers that live are connected to it', async () => {
    const a = fake('a')
    a.commit('u1', 'one apple')
    const b = await daemon('b', ['a'])
    await untilWatched(b, 'a')
    const web = await server('b')
    a.stop()
    await once(b, 'recovered')
    await b.close()
    const again = await daemon('b', [])
    expect(again.status().waitingSessions).toBe(1)
    const carts = web.sessions<Uint8Array>('carts', { codec: bytesCodec })
    await once(carts, 'adopted')
    expect(text(carts.get('u1'))).toBe('one apple')
  })
})

describe('a server that is gone', () => {
  it('is recovered without a word to its healthy neighbours', async () => {
    const a = fake('a')
    a.commit('u1', 'one apple')
    const b = await daemon('b', ['a'])
    await untilWatched(b, 'a')
    const verdict = once(b, 'verdict')
    const recovered = once(b, 'recovered')
    a.exitServer()
    expect((await verdict)[1]).toMatchObject({ kind: 'app-exited', name: 'web' })
    expect((await recovered)[0]).toMatchObject({ outcome: 'announced', adopted: 1, boxes: [a.server.box] })
    expect(a.server.fenced).toBe(true)
    expect(a.daemonBox.fenced).toBe(false)
  })

  it('is left alone where it closed its box', async () => {
    const a = fake('a')
    const b = await daemon('b', ['a'])
    const verdicts: string[] = []
    b.on('verdict', (_, verdict) => verdicts.push(`${'box' in verdict ? verdict.name : 'node'}: ${verdict.kind}`))
    await untilWatched(b, 'a')
    a.server.close()
    // The sensor stops with the server. One that comes after it and never beats is past the same deadline later.
    BoxOwner.take(a.region, { name: 'late' }).sensor({ name: 'event-loop', kind: 'progress', deadlineUs: testDeadlineMs * 1000 })
    await once(b, 'verdict')
    expect(verdicts).toEqual(['late: app-stalled'])
  })
})

describe('a daemon', () => {
  it('takes its region up again, with its incarnation and what servers committed', async () => {
    const first = await daemon('a', [])
    const { incarnation } = first.status()
    const web = await server('a')
    web.sessions<string>('names').commit('u1', 'Ada')
    await first.close()
    const second = await daemon('a', [])
    expect(second.status().incarnation).toBe(incarnation)
    expect(web.sessions<string>('names').get('u1')).toBe('Ada')
  })

  it('refuses a region that another daemon lends', async () => {
    await daemon('a', [])
    await expect(daemon('a', [])).rejects.toMatchObject({ code: 'BOX_IN_USE' })
  })

  it('says that it was fenced, and starts anew with another incarnation', async () => {
    const a = await daemon('a', [])
    const web = await server('a')
    web.sessions<string>('names').commit('u1', 'Ada')
    const region = openRegion(pathOf('a'))
    const words = new BigUint64Array(region.memory.buffer, 4096, 2)
    const toldDaemon = once(a, 'fenced')
    words[0] = 1n
    words[1] = (1n << 40n) | (7n << 24n) | (1n << 8n) | 5n // generation 1, recoverer 7, term 1, announced
    await toldDaemon
    expect(() => web.sessions<string>('names').commit('u1', 'Bob')).toThrow(expect.objectContaining({ code: 'FENCED' }))
    const { incarnation } = a.status()
    region.memory.close()
    await a.close()
    const again = await daemon('a', [])
    expect(again.status().incarnation).not.toBe(incarnation)
    expect((await server('a')).sessions<string>('names').size).toBe(0)
  })

  it('answers on its socket, and refuses what it does not know', async () => {
    await daemon('a', ['b'])
    const answer = async (message: ToDaemon): Promise<FromDaemon> => {
      const socket = connect(socketPathOf(pathOf('a')))
      const received = new Promise<FromDaemon>((resolve, reject) => readMessages(socket, fromDaemon, resolve, reject))
      writeMessage(socket, message)
      return received.finally(() => socket.destroy())
    }
    expect(await answer({ type: 'request', id: 1, method: 'status', params: {} })).toMatchObject({ id: 1, result: { node: 'a', peers: [{ peer: 'b', connected: false }] } })
    expect(await answer({ type: 'request', id: 2, method: 'toString', params: {} })).toMatchObject({ id: 2, error: { code: 'PROTOCOL_ERROR' } })
    expect(await answer({ type: 'request', id: 3, method: 'sessions', params: { node: 'z' } })).toMatchObject({ id: 3, error: { code: 'PEER_UNKNOWN' } })
  })

  it('drops a local connection that talks nonsense, and serves on', async () => {
    const a = await daemon('a', [])
    const socket = connect(socketPathOf(pathOf('a')))
    socket.write('{"type":"taken","offer":-1}\n')
    await once(socket, 'close')
    const web = await server('a')
    web.sessions('names')
    while (a.status().servers.length === 0) await new Promise(setImmediate)
    expect(a.status().servers).toEqual(['web'])
  })

  it('serves its metrics', async () => {
    const port = await freePort()
    await daemon('a', [], { metrics: { port } })
    const page = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
    expect(page).toContain('backdoors_fenced{node="a"} 0')
    expect(page).toContain('backdoors_waiting_sessions{node="a"} 0')
  })
})

describe('a recovery whose recoverer has failed, too', () => {
  const claimedBy = (node: string, step: ClaimStep): bigint => encodeClaim({ recoverer: nodeNumber(node), term: 1, step, generation: 1 })

  /** The node `c` has claimed `a`, and then both are still. */
  async function bothFailed(step: ClaimStep): Promise<{ b: Daemon; recovered: Promise<RecoveryReport[]> }> {
    const [a, c] = [fake('a'), fake('c')]
    a.commit('u1', 'one apple')
    const b = await daemon('b', ['a', 'c'])
    await Promise.all([untilWatched(b, 'a'), untilWatched(b, 'c')])
    const recovered = new Promise<RecoveryReport[]>((resolve) => {
      const reports: RecoveryReport[] = []
      b.on('recovered', (report) => {
        reports.push(report)
        if (reports.filter(({ outcome }) => outcome === 'announced').length === 2) resolve(reports)
      })
    })
    const words = new BigUint64Array(a.region.memory.buffer, controlPairOffset('node'), 2)
    words[0] = 1n
    words[1] = claimedBy('c', step)
    a.stop()
    c.stop()
    return { b, recovered }
  }

  it.each(['claimed', 'extracted'] as const)('is taken over from step %s', async (step) => {
    const { b, recovered } = await bothFailed(step)
    const carts = (await server('b')).sessions<Uint8Array>('carts', { codec: bytesCodec })
    const taken = once(b, 'taken')
    const reports = await recovered
    expect(reports.filter(({ outcome }) => outcome === 'announced').map(({ peer }) => peer).sort()).toEqual(['a', 'c'])
    expect(reports.find(({ peer, outcome }) => peer === 'a' && outcome === 'announced')).toMatchObject({ adopted: 1 })
    await taken
    expect(text(carts.get('u1'))).toBe('one apple')
    expect(b.status().waitingSessions).toBe(0)
  })
})
