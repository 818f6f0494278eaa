/** A daemon whose membership changes while it runs. */
import { once } from 'node:events'
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { DaemonConfigInput } from './config.js'
import { startDaemon, type Daemon } from './daemon.js'
import { FakeNode, testDeadlineMs, testGeometry } from './testing/fake-node.js'

let folder: string
let closers: (() => Promise<void> | void)[]
const pathOf = (node: string): string => join(folder, node)

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'backdoors-members-'))
  closers = []
})

afterEach(async () => {
  for (const close of closers.reverse()) await close()
  rmSync(folder, { recursive: true })
})

/** Replaces the file of members. */
function list(...entries: (string | { name: string; region: string })[]): void {
  const peers = entries.map((entry) => (typeof entry === 'string' ? { name: entry, region: pathOf(entry) } : entry))
  writeFileSync(pathOf('new.json'), JSON.stringify(peers))
  renameSync(pathOf('new.json'), pathOf('members.json'))
}

async function daemon(more: Partial<DaemonConfigInput> = {}): Promise<Daemon> {
  const { boxCount, ...geometry } = testGeometry
  const started = await startDaemon({
    node: 'a', cluster: 'test', log: 'silent', region: { path: pathOf('a'), boxes: boxCount, ...geometry },
    membership: { file: pathOf('members.json') }, watch: { peers: 3, intervalUs: 500, osDeadlineMs: testDeadlineMs, refreshMs: 20 }, ...more,
  })
  closers.push(() => started.close())
  return started
}

function fake(node: string, path = pathOf(node)): FakeNode {
  const made = new FakeNode(node, path)
  closers.push(() => made.close())
  return made
}

const watchedBy = (watcher: Daemon): string[] => watcher.status().peers.map(({ peer }) => peer)
async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await new Promise((resolve) => setTimeout(resolve, 5))
}

describe('a daemon whose members change', () => {
  it('watches who comes, recovers it, and watches no more who has left', async () => {
    list('a')
    const a = await daemon()
    expect(a.status()).toMatchObject({ peers: [], membership: { source: 'file', members: [] } })
    const b = fake('b')
    b.commit('u1', 'one apple')
    const watching = once(a, 'watching')
    list('a', 'b')
    expect(await watching).toEqual(['b', b.region.header.incarnation])
    await until(() => (a.status().peers[0]?.servers?.[0]?.sensors.length ?? 0) > 0)
    const recovered = once(a, 'recovered')
    b.stop()
    expect((await recovered)[0]).toMatchObject({ peer: 'b', outcome: 'announced', adopted: 1 })
    const members = once(a, 'members')
    list('a')
    expect(await members).toEqual([[]])
    await until(() => watchedBy(a).length === 0)
  })

  it('watches a member again that had left and is back', async () => {
    list('b')
    fake('b')
    const a = await daemon()
    await once(a, 'watching')
    list()
    await until(() => watchedBy(a).length === 0)
    const again = once(a, 'watching')
    list('b')
    expect((await again)[0]).toBe('b')
  })

  it('watches a member anew that has another address', async () => {
    list('b')
    fake('b')
    const a = await daemon()
    await once(a, 'watching')
    const moved = fake('b', pathOf('elsewhere'))
    const again = once(a, 'watching')
    list({ name: 'b', region: pathOf('elsewhere') })
    expect(await again).toEqual(['b', moved.region.header.incarnation])
    expect(watchedBy(a)).toEqual(['b'])
  })

  it('ends no watching in the midst of a recovery, whatever the membership says', async () => {
    list('b')
    const b = fake('b')
    b.commit('u1', 'one apple')
    // The fence command waits for the test's word.
    const go = pathOf('go')
    const a = await daemon({ recovery: { fence: { command: ['sh', '-c', `until [ -e ${go} ]; do sleep 0.01; done`] } } })
    await until(() => (a.status().peers[0]?.servers?.[0]?.sensors.length ?? 0) > 0)
    const fenced = once(a, 'verdict')
    b.stop()
    await fenced
    const members = once(a, 'members')
    list()
    await members
    expect(watchedBy(a)).toEqual(['b'])
    const recovered = once(a, 'recovered')
    writeFileSync(go, '')
    expect((await recovered)[0]).toMatchObject({ peer: 'b', outcome: 'announced', adopted: 1 })
    await until(() => watchedBy(a).length === 0)
  })

  it('goes on with the last members where the file is broken, and says so', async () => {
    list('b')
    fake('b')
    const a = await daemon()
    await once(a, 'watching')
    writeFileSync(pathOf('members.json'), '[{')
    await until(() => a.status().membership.trouble !== undefined)
    expect(a.status()).toMatchObject({ peers: [{ peer: 'b', connected: true }], membership: { members: ['b'], trouble: { code: 'CONFIG_INVALID' } } })
  })

  it('does not start where the file is broken from the start', async () => {
    writeFileSync(pathOf('members.json'), '[{')
    await expect(daemon()).rejects.toMatchObject({ code: 'CONFIG_INVALID', details: { path: pathOf('members.json') } })
  })
})
