import { describe, expect, it } from 'vitest'
import { BoxOwner } from '../region/box-owner.js'
import { boxOffset, daemonBox } from '../region/layout.js'
import { BytesMemory } from '../region/testing/bytes-memory.js'
import { Machine } from '../region/testing/memory-region.js'
import { holdingOf, type Claim } from '../region/control.js'
import { AdoptionNotes, draftsLeftIn, noteStore, stateOf, type AdoptionSource } from './adoption-notes.js'
import { recover, type RecoveryReport } from './recover.js'

const source: AdoptionSource = { node: 'dead', incarnation: 7n, target: 'node' }
const claim: Claim = { recoverer: 2, term: 1, step: 'adopted', generation: 1 }
const held = { ...source, holding: holdingOf(claim), boxes: [{ box: 1, holding: holdingOf(claim) }] }

/** A daemon that has written its notes, and the region it leaves. */
function left(write: (notes: AdoptionNotes) => void): { machine: Machine; newestAt: number } {
  const machine = new Machine()
  const region = machine.open()
  const box = BoxOwner.take(region, { name: 'daemon', daemon: true })
  write(new AdoptionNotes(box))
  const store = box.sessions.store(noteStore)
  const newestAt = box.sessions.locate(store, [...store.sessions.keys()][0] as string)?.offset ?? Number.NaN
  machine.kill(region)
  return { machine, newestAt }
}

function damage({ machine, newestAt }: { machine: Machine; newestAt: number }): void {
  machine.bytes[newestAt + 64] = (machine.bytes[newestAt + 64] as number) ^ 1
}

const nextLife = (machine: Machine): AdoptionNotes => new AdoptionNotes(BoxOwner.take(machine.open(), { name: 'daemon', daemon: true }))

describe('a note whose newest version is damaged', () => {
  it('says adopted as it did: what is served is no draft again', () => {
    const found = left((notes) => {
      notes.begin(held)
      notes.confirm(source, true)
    })
    damage(found)
    const notes = nextLife(found.machine)
    expect(stateOf(notes.all(), source, claim)).toBe('adopted')
    expect(notes.giveUpAll()).toBe(0)
    expect(stateOf(notes.all(), source, claim)).toBe('adopted')
  })

  it('says adopting as it did', () => {
    const found = left((notes) => notes.begin(held))
    damage(found)
    expect(draftsLeftIn(found.machine.open()).map(({ state }) => state)).toEqual(['adopting'])
    expect(stateOf(nextLife(found.machine).all(), source, claim)).toBe('adopting')
  })

  it('says abandoned as it did', () => {
    const found = left((notes) => {
      notes.begin(held)
      notes.giveUp(source)
    })
    damage(found)
    expect(stateOf(nextLife(found.machine).all(), source, claim)).toBe('abandoned')
  })
})

/** Of a machine that nobody else writes to. */
class OwnMemory extends BytesMemory {
  constructor(private readonly all: Uint8Array) {
    super(all)
  }

  override compareAndSwap(offset?: number, expected?: bigint, desired?: bigint): Promise<bigint> {
    const view = new DataView(this.all.buffer, this.all.byteOffset)
    const found = view.getBigUint64(offset as number, true)
    if (found === expected) view.setBigUint64(offset as number, desired as bigint, true)
    return Promise.resolve(found)
  }
}

/** What a recovery of the node reports whose memory this is. */
async function recovering(machine: Machine): Promise<RecoveryReport> {
  const { header } = machine.open()
  return await recover({
    memory: new OwnMemory(machine.bytes), header, target: { kind: 'node' }, recoverer: 1, nowMs: () => 0,
    adopt: ({ length }) => Promise.resolve({ adopted: length, known: 0, refused: 0 }), announce: () => Promise.resolve(),
  })
}

describe('a damaged note is counted', () => {
  /** Changes a byte of every version in the heap of the daemon's box whose bytes hold this text, so far behind the text's beginning. */
  function flipBehind(machine: Machine, text: string, behind: number, most = Infinity): number {
    const { plan } = machine.open().header
    const heapAt = boxOffset(plan, daemonBox) + plan.heapInBox
    const heap = Buffer.from(machine.bytes.buffer, machine.bytes.byteOffset + heapAt, plan.heapBytes)
    let flipped = 0
    for (let at = heap.indexOf(text); at >= 0 && flipped < most; at = heap.indexOf(text, at + 1), flipped++) heap.writeUInt8(heap.readUInt8(at + behind) ^ 1, at + behind)
    return flipped
  }

  function node(): Machine {
    const machine = new Machine()
    const region = machine.open()
    const box = BoxOwner.take(region, { name: 'daemon', daemon: true })
    new AdoptionNotes(box).begin(held)
    for (let version = 0; version < 2; version++) box.sessions.commit(box.sessions.store('carts'), 'u1', Buffer.from('one apple'), { ttlMs: 0, schemaVersion: 1 })
    machine.kill(region)
    return machine
  }

  it('as no session, where one of its versions is', async () => {
    const machine = node()
    const { offset } = (() => {
      const box = BoxOwner.take(machine.open(), { name: 'daemon', daemon: true })
      const store = box.sessions.store(noteStore)
      return box.sessions.locate(store, [...store.sessions.keys()][0] as string) as { offset: number }
    })()
    damage({ machine, newestAt: offset })
    expect(await recovering(machine)).toMatchObject({ found: 1, adopted: 1, corrupt: 0, stale: 0, damagedNotes: 1 })
  })

  it('as no session, where both of its versions are, and still say of which store they were', async () => {
    const machine = node()
    expect(flipBehind(machine, noteStore, noteStore.length + 4)).toBe(2)
    expect(await recovering(machine)).toMatchObject({ found: 1, adopted: 1, corrupt: 0, stale: 0, damagedNotes: 1 })
  })

  it('as a session where nothing tells it from one: better one too many that may be lost than one too few', async () => {
    const machine = node()
    expect(flipBehind(machine, noteStore, 0)).toBe(2)
    expect(await recovering(machine)).toMatchObject({ found: 1, corrupt: 1, stale: 0, damagedNotes: 0 })
  })

  it('and a damaged session is none', async () => {
    const machine = node()
    expect(flipBehind(machine, 'one apple', 0)).toBe(2)
    expect(await recovering(machine)).toMatchObject({ found: 0, corrupt: 1, damagedNotes: 0 })
    const again = node()
    expect(flipBehind(again, 'one apple', 0, 1)).toBe(1)
    expect(await recovering(again)).toMatchObject({ found: 1, corrupt: 0, damagedNotes: 0 })
  })
})
