/** A server commits as fast as it can, while another process reads its memory; then it is killed. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { ShmMemory } from '../fabric/shm/shm-memory.js'
import { BoxOwner } from './box-owner.js'
import { readHeader, readSessions, type Extraction } from './region-reader.js'
import { createRegion, openRegion } from './region.js'
import { startTypescript, type Child } from './testing/child.js'
import { payloadOf } from './testing/writer-box.js'

const sessionCount = 20
const payloadBytes = 3000
let folder: string
let child: Child | undefined

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'backdoors-two-'))
})
afterEach(async () => {
  child?.process.kill('SIGKILL')
  await child?.ended()
  rmSync(folder, { recursive: true })
})

/** Every session found is one that was committed, whole; `seen` holds the last commit seen of each. */
function checkSessions({ sessions }: Extraction, seen: Map<string, number>): void {
  for (const { id, schemaVersion: commit, sequence, payload } of sessions) {
    expect(Buffer.compare(payload, payloadOf(id, commit, payload.length)), `session ${id}, commit ${commit}`).toBe(0)
    expect(payload.length).toBe(20 + ((commit * 37 + Number(id.slice(2)) * 101) % payloadBytes))
    expect(sequence).toBeGreaterThanOrEqual(seen.get(id) ?? 0)
    seen.set(id, sequence)
  }
}

it('reads nothing but what was committed, in its order, and after a kill all that was acknowledged', { timeout: 90_000 }, async () => {
  const path = join(folder, 'region')
  createRegion(path, 'a', 'test', { boxCount: 2, sensorsPerBox: 4, sessionsPerBox: 64, heapBytes: 1 << 20 }).memory.close()
  child = startTypescript('./writer-process.ts', [path, 'shop', String(sessionCount), String(payloadBytes)])
  await child.said(new RegExp(`^${sessionCount - 1} 1$`, 'm'))
  const memory = new ShmMemory({ peer: 'a', path })
  try {
    const header = await readHeader(memory)
    const seen = new Map<string, number>()
    let found = 0
    for (let round = 0; round < 300; round++) {
      const extraction = await readSessions(memory, header, 1)
      checkSessions(extraction, seen)
      found += extraction.sessions.length
    }
    expect(found).toBeGreaterThan(0)

    child.process.kill('SIGKILL')
    const { stdout, stderr, signal } = await child.ended()
    expect(signal, stderr).toBe('SIGKILL')
    const acknowledged = new Map([...stdout.matchAll(/^(\d+) (\d+)$/gm)].map(([, session, commit]) => [`u-${session ?? ''}`, Number(commit)]))
    expect(acknowledged.size).toBe(sessionCount)

    const extraction = await readSessions(memory, header, 1)
    checkSessions(extraction, seen)
    expect(extraction.corrupt).toBe(0)
    const commits = new Map(extraction.sessions.map(({ id, schemaVersion }) => [id, schemaVersion]))
    for (const [id, commit] of acknowledged) {
      // The last one may have been committed, and its writer killed before it said so.
      expect([commit, commit + 1], `session ${id}`).toContain(commits.get(id))
    }
    const ahead = [...acknowledged].filter(([id, commit]) => commits.get(id) !== commit)
    expect(ahead.length).toBeLessThanOrEqual(1)

    const region = openRegion(path)
    const owner = BoxOwner.take(region, { name: 'shop' })
    const store = owner.sessions.store('carts')
    for (const [id, commit] of commits) expect(owner.sessions.get(store, id)?.schemaVersion).toBe(commit)
    region.memory.close()
  } finally {
    await memory.close()
  }
})
