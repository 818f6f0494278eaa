import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { Random } from '../../fabric/mock/random.js'
import { ShmMemory } from '../../fabric/shm/shm-memory.js'
import { BoxOwner } from '../../region/box-owner.js'
import { control, controlPairOffset } from '../../region/layout.js'
import { readSessions } from '../../region/region-reader.js'
import { createRegion, type Region } from '../../region/region.js'
import { safeguardsWithout } from '../../safeguards.js'
import { messagePackCodec } from '../../servers/codec.js'
import { HalfWriter } from './half-written.js'
import { applied, type SessionState } from './protocol.js'

const codec = messagePackCodec<SessionState>()
let folder: string
let region: Region
let owner: BoxOwner
let acknowledged: Map<string, SessionState>

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'backdoors-half-written-'))
  region = createRegion(join(folder, 'a'), 'a', 'test', { boxCount: 2, sensorsPerBox: 1, sessionsPerBox: 16, heapBytes: 64 << 10 })
  owner = BoxOwner.take(region, { name: 'shop' })
  acknowledged = new Map()
  const store = owner.sessions.store('sessions')
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 8; i++) {
      const state = applied(acknowledged.get(`s${i}`), String(round).repeat(96), 'a')
      owner.sessions.commit(store, `s${i}`, codec.encode(state), { ttlMs: 0, schemaVersion: 1 })
      acknowledged.set(`s${i}`, state)
    }
  }
})

afterEach(() => {
  region.memory.close()
  rmSync(folder, { recursive: true })
})

async function readAll(crc: boolean): Promise<Map<string, SessionState>> {
  const memory = new ShmMemory({ peer: 'a', path: join(folder, 'a'), controlOffset: control.offset, controlLength: control.bytes })
  const { sessions } = await readSessions(memory, region.header, owner.box, safeguardsWithout(crc ? undefined : 'crc'))
  await memory.close()
  return new Map(sessions.map(({ id, payload }) => [id, codec.decode(payload)]))
}

it('is discarded for the last acknowledged state where CRCs are checked, and comes back mixed where not', async () => {
  const planted = new HalfWriter(join(folder, 'a'), 3, new Random(1)).plant()
  expect(new Set(planted).size).toBe(3)
  expect(await readAll(true)).toEqual(acknowledged)
  const believed = await readAll(false)
  for (const [id, state] of acknowledged) {
    if (planted.includes(id)) expect(believed.get(id)).toMatchObject({ n: state.n + 1, text: expect.stringMatching(/2$/) as unknown })
    else expect(believed.get(id)).toEqual(state)
  }
})

it('comes too late where the server has been fenced', () => {
  const writer = new HalfWriter(join(folder, 'a'), 3, new Random(1))
  new BigUint64Array(region.memory.buffer, controlPairOffset('node') + control.fence, 1)[0] = 1n
  expect(writer.plant()).toEqual([])
})
