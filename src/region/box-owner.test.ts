import { describe, expect, it, vi } from 'vitest'
import { safeguardsWithout } from '../safeguards.js'
import { abandonedBoxes, BoxOwner, isBeingRecovered, markExited } from './box-owner.js'
import { fenceAll } from './control.js'
import { boxOffset, directoryEntry, directoryEntryOffset } from './layout.js'
import { readDirectory, readSensors, readSessions } from './region-reader.js'
import type { Region } from './region.js'
import { BytesMemory } from './testing/bytes-memory.js'
import { codeOf } from './testing/code-of.js'
import { Machine } from './testing/memory-region.js'
import { payloadOf } from './testing/writer-box.js'

const plain = { ttlMs: 0, schemaVersion: 1 }
const take = (region: Region, name = 'shop'): BoxOwner => BoxOwner.take(region, { name, nowMs: () => 1000 })

function commit(owner: BoxOwner, id: string, times = 1): void {
  for (let i = 1; i <= times; i++) owner.sessions.commit(owner.sessions.store('carts'), id, payloadOf(id, i, 30), plain)
}

const idsIn = async (machine: Machine, box: number): Promise<string[]> => {
  const { sessions } = await readSessions(new BytesMemory(machine.bytes), machine.open().header, box)
  return sessions.map(({ id }) => id).sort()
}
const entryOf = async (machine: Machine, box: number) => (await readDirectory(new BytesMemory(machine.bytes), machine.open().header))[box]

describe('taking a box', () => {
  it('gives the daemon box 0, and each server one of the others', async () => {
    const machine = new Machine()
    const daemon = BoxOwner.take(machine.open(), { name: 'daemon', daemon: true })
    const owners = ['a', 'b', 'c'].map((name) => take(machine.open(), name))
    expect([daemon, ...owners].map(({ box, generation }) => [box, generation])).toEqual([[0, 1], [1, 1], [2, 1], [3, 1]])
    expect(codeOf(() => take(machine.open(), 'd'))).toBe('BOXES_EXHAUSTED')
    expect(codeOf(() => BoxOwner.take(machine.open(), { name: 'daemon', daemon: true }))).toBe('BOXES_EXHAUSTED')
    expect(await entryOf(machine, 2)).toMatchObject({ name: 'b', state: 'open', generation: 1, pid: process.pid, exited: false })
  })

  it('is BOX_IN_USE where a server of that name is attached, in another process or in this one', () => {
    const machine = new Machine()
    const region = machine.open()
    take(region)
    expect(codeOf(() => take(machine.open()))).toBe('BOX_IN_USE')
    expect(codeOf(() => take(region))).toBe('BOX_IN_USE')
    expect(take(region, 'another').box).toBe(2)
  })

  it('gives a name to one process only where two start at the same time', async () => {
    const machine = new Machine()
    const region = machine.open()
    const other = machine.open()
    // The other one begins and ends between this one's look at the names and its lock.
    let winner: BoxOwner | undefined
    const lockBytes = region.memory.lockBytes.bind(region.memory)
    region.memory.lockBytes = (offset, length) => {
      winner ??= take(other)
      return lockBytes(offset, length)
    }
    expect(codeOf(() => take(region))).toBe('BOX_IN_USE')
    expect(winner?.box).toBe(1)
    expect(await entryOf(machine, 2)).toMatchObject({ state: 'free' })
    expect(take(machine.open(), 'another').box).toBe(2)
  })

  it.each([
    ['killed', 2, ['u-1']],
    ['closed', 1, []],
  ] as const)('that another server took meanwhile, and was %s in, gives box %i and leaves %j', async (end, box, left) => {
    const machine = new Machine()
    const region = machine.open()
    const other = machine.open()
    // The other one takes the box, commits and ends between this one's look at the entries and its lock.
    let isFirst = true
    const lockBytes = region.memory.lockBytes.bind(region.memory)
    region.memory.lockBytes = (offset, length) => {
      if (isFirst) {
        isFirst = false
        const owner = take(other, 'other')
        expect(owner.box).toBe(1)
        commit(owner, 'u-1')
        if (end === 'closed') owner.close()
        machine.kill(other)
      }
      return lockBytes(offset, length)
    }
    expect(take(region).box).toBe(box)
    expect(await idsIn(machine, 1)).toEqual(left)
    const restarted = take(machine.open(), 'other')
    expect(restarted.sessions.size).toBe(left.length)
    expect(restarted.box).toBe(end === 'killed' ? 1 : 2)
  })

  it('of a restarted server finds its sessions, in a new generation', async () => {
    const machine = new Machine()
    const first = machine.open()
    commit(take(first), 'u-1', 3)
    machine.kill(first)
    const next = take(machine.open())
    expect([next.box, next.generation]).toEqual([1, 2])
    expect(next.sessions.get(next.sessions.store('carts'), 'u-1')).toMatchObject({ sequence: 3, payload: payloadOf('u-1', 3, 30) })
    commit(next, 'u-1')
    expect(next.sessions.get(next.sessions.store('carts'), 'u-1')?.sequence).toBe(4)
    expect(await idsIn(machine, 1)).toEqual(['u-1'])
  })

  it('shows a recoverer every session of a restarted server, not the newest alone', async () => {
    const machine = new Machine()
    const first = machine.open()
    const owner = take(first)
    for (const id of ['u-1', 'u-2', 'u-3']) commit(owner, id, 2)
    machine.kill(first)
    take(machine.open())
    expect(await idsIn(machine, 1)).toEqual(['u-1', 'u-2', 'u-3'])
  })

  it('clears the sensors of the owner before, which would never move again', async () => {
    const machine = new Machine()
    const first = machine.open()
    const owner = take(first)
    for (const name of ['event-loop', 'requests']) owner.sensor({ name, kind: 'progress', deadlineUs: 1000 }).beat()
    machine.kill(first)
    const next = take(machine.open())
    next.sensor({ name: 'event-loop', kind: 'progress', deadlineUs: 1000 })
    const [box] = await readSensors(new BytesMemory(machine.bytes), next.region.header, [1])
    expect(box?.sensors.map(({ name, counter }) => [name, counter])).toEqual([['event-loop', 0]])
  })

  it('takes a left box only when none is new, and empties it', async () => {
    const machine = new Machine()
    const a = take(machine.open(), 'a')
    commit(a, 'u-1', 5)
    a.close()
    expect(take(machine.open(), 'b').box).toBe(2)
    expect(take(machine.open(), 'c').box).toBe(3)
    expect(await idsIn(machine, 1)).toEqual(['u-1'])
    const d = take(machine.open(), 'd')
    expect([d.box, d.generation, d.sessions.sequence, d.sessions.size]).toEqual([1, 2, 5, 0])
    expect(await idsIn(machine, 1)).toEqual([])
    commit(d, 'u-1')
    expect(await entryOf(machine, 1)).toMatchObject({ name: 'd', sequenceFloor: 5 })
    expect(d.sessions.get(d.sessions.store('carts'), 'u-1')?.sequence).toBe(6)
  })

  it('leaves a box with a damaged entry alone', () => {
    const machine = new Machine()
    const region = machine.open()
    commit(take(region), 'u-1')
    machine.kill(region)
    machine.bytes[directoryEntryOffset(region.header.plan, 1) + directoryEntry.versionA + 4] = 77
    expect(take(machine.open()).box).toBe(2)
  })
})

describe('a closed box', () => {
  it('keeps its sessions for a server of the same name', async () => {
    const machine = new Machine()
    const owner = take(machine.open())
    commit(owner, 'u-1')
    owner.close()
    owner.close()
    expect(await entryOf(machine, 1)).toMatchObject({ state: 'closed', generation: 1 })
    const next = take(machine.open())
    expect([next.box, next.generation, next.sessions.size]).toEqual([1, 2, 1])
  })

  it('takes no commits and no beats, for it may be another process’s by now', () => {
    const machine = new Machine()
    const owner = take(machine.open())
    const sensor = owner.sensor({ name: 'event-loop', kind: 'progress', deadlineUs: 1000 })
    expect(sensor.beat()).toBe(true)
    owner.close()
    const before = machine.bytes.slice()
    expect(codeOf(() => commit(owner, 'u-1'))).toBe('CLOSED')
    expect(sensor.beat()).toBe(false)
    expect(Buffer.compare(machine.bytes, before)).toBe(0)
  })

  it('stays open where it was fenced before, so that its recovery goes on', async () => {
    const machine = new Machine()
    const owner = take(machine.open())
    commit(owner, 'u-1')
    machine.setFence(1, 1)
    owner.close()
    expect(await entryOf(machine, 1)).toMatchObject({ state: 'open', generation: 1 })
  })

  it('is open again where the fence came while it was being closed', async () => {
    const machine = new Machine()
    const region = machine.open()
    const owner = take(region)
    // The fence falls between the store that closes the box and the second look at the fence.
    const fenceAt = vi.spyOn(Atomics, 'add') as unknown as { mockImplementationOnce(run: () => number): void; mockRestore(): void }
    fenceAt.mockImplementationOnce(() => {
      machine.setFence(1, 1)
      return 0
    })
    owner.close()
    fenceAt.mockRestore()
    expect(owner.fenced).toBe(true)
    expect(await entryOf(machine, 1)).toMatchObject({ state: 'open', generation: 1 })
  })
})

describe('a fenced box', () => {
  it('refuses commits, deletes and beats, and says who is concerned', () => {
    const machine = new Machine()
    const owner = take(machine.open())
    const sensor = owner.sensor({ name: 'event-loop', kind: 'progress', deadlineUs: 1000 })
    commit(owner, 'u-1')
    machine.setFence(1, 1)
    expect(owner.fenced).toBe(true)
    expect(codeOf(() => commit(owner, 'u-1'))).toBe('FENCED')
    expect(codeOf(() => owner.sessions.delete(owner.sessions.store('carts'), 'u-1'))).toBe('FENCED')
    expect(sensor.beat()).toBe(false)
  })

  it('costs its neighbours nothing', () => {
    const machine = new Machine()
    const [a, b] = [take(machine.open(), 'a'), take(machine.open(), 'b')]
    machine.setFence(a.box, 1)
    commit(b, 'u-1')
    expect([a.fenced, b.fenced]).toEqual([true, false])
  })

  it('is left to its recoverer: a restarted server starts in another box, empty', async () => {
    const machine = new Machine()
    const region = machine.open()
    commit(take(region), 'u-1')
    machine.kill(region)
    machine.setFence(1, 1)
    for (const step of [undefined, 'claimed', 'extracted', 'adopted'] as const) {
      if (step) machine.setClaim(1, 1, step)
      const next = machine.open()
      const owner = take(next)
      expect([owner.box, owner.sessions.size]).toEqual([2, 0])
      machine.kill(next)
    }
    expect(await idsIn(machine, 1)).toEqual(['u-1'])
  })

  it('is taken empty, in a higher generation, once its recovery is announced', async () => {
    const machine = new Machine()
    const region = machine.open()
    commit(take(region), 'u-1', 4)
    machine.kill(region)
    machine.setFence(1, 7)
    machine.setClaim(1, 7, 'announced')
    for (const name of ['b', 'c']) take(machine.open(), name)
    const owner = take(machine.open())
    expect([owner.box, owner.generation, owner.sessions.size, owner.fenced]).toEqual([1, 8, 0, false])
    commit(owner, 'u-1')
    expect(owner.sessions.get(owner.sessions.store('carts'), 'u-1')?.sequence).toBe(5)
  })

  it('is not free where another generation’s recovery was announced', () => {
    const machine = new Machine()
    const region = machine.open()
    take(region)
    machine.kill(region)
    machine.setFence(1, 2)
    machine.setClaim(1, 1, 'announced')
    expect(take(machine.open()).box).toBe(2)
  })

  it('does not draw a server away from the box that it went on in', async () => {
    const machine = new Machine()
    const [first, second] = [machine.open(), machine.open()]
    commit(take(first), 'u-1')
    machine.kill(first)
    machine.setFence(1, 1)
    commit(take(second), 'u-2')
    machine.kill(second)
    machine.setClaim(1, 1, 'announced')
    const owner = take(machine.open())
    expect([owner.box, owner.generation, owner.sessions.size]).toEqual([2, 2, 1])
  })

  it('with all generations fenced is nobody’s any more', () => {
    const machine = new Machine()
    const region = machine.open()
    take(region)
    machine.kill(region)
    machine.setFence(1, fenceAll)
    machine.setClaim(1, fenceAll, 'announced')
    machine.setFence(3, fenceAll)
    for (const [name, box] of [['shop', 2], ['b', undefined]] as const) {
      if (box) expect(take(machine.open(), name).box).toBe(box)
      else expect(codeOf(() => take(machine.open(), name))).toBe('BOXES_EXHAUSTED')
    }
  })

  it('goes on being written without the safeguard: the canary', () => {
    const machine = new Machine()
    const owner = BoxOwner.take(machine.open(), { name: 'shop', safeguards: safeguardsWithout('fence') })
    machine.setFence(1, 1)
    machine.setFence('node', 1)
    commit(owner, 'u-1')
    expect(owner.fenced).toBe(false)
  })
})

describe('a fence that comes while the box is being taken', () => {
  it('leaves the box and its sessions under the generation that wrote them', async () => {
    const machine = new Machine()
    const first = machine.open()
    commit(take(first), 'u-1')
    machine.kill(first)
    const region = machine.open()
    // Clearing the sensors is what comes between the first look at the fence and the new generation.
    Object.defineProperty(region.bytes, 'fill', {
      value: (...args: Parameters<Uint8Array['fill']>) => {
        machine.setFence(1, 1)
        return Uint8Array.prototype.fill.apply(region.bytes, args)
      },
    })
    expect(take(region).box).toBe(2)
    expect(await entryOf(machine, 1)).toMatchObject({ name: 'shop', state: 'open', generation: 1 })
    expect(await idsIn(machine, 1)).toEqual(['u-1'])
  })
})

describe('whether somebody recovers from a region', () => {
  it('is so from the fence of a server to the end of its recovery', () => {
    const machine = new Machine()
    const region = machine.open()
    take(machine.open())
    expect(isBeingRecovered(region)).toBe(false)
    machine.setFence(1, 1)
    expect(isBeingRecovered(region)).toBe(true)
    for (const step of ['claimed', 'extracted', 'adopted'] as const) {
      machine.setClaim(1, 1, step)
      expect(isBeingRecovered(region)).toBe(true)
    }
    machine.setClaim(1, 1, 'announced')
    expect(isBeingRecovered(region)).toBe(false)
  })

  it('is not so where a fence came too late: the server had been started anew', () => {
    const machine = new Machine()
    const first = machine.open()
    take(first)
    machine.kill(first)
    take(machine.open())
    machine.setFence(1, 1)
    expect(isBeingRecovered(machine.open())).toBe(false)
  })

  it('is so of a node until its claim is announced, whatever its boxes say', () => {
    const machine = new Machine()
    const region = machine.open()
    machine.setFence('node', 1)
    machine.setClaim('node', 1, 'adopted')
    expect(isBeingRecovered(region)).toBe(true)
    machine.setFence(1, 1)
    machine.setClaim('node', 1, 'announced')
    expect(isBeingRecovered(region)).toBe(false)
  })
})

describe('the fence of a node', () => {
  it('fences all its boxes, and gives no new ones', () => {
    const machine = new Machine()
    const owners = ['a', 'b'].map((name) => take(machine.open(), name))
    machine.setFence('node', 1)
    for (const owner of owners) expect(codeOf(() => commit(owner, 'u-1'))).toBe('FENCED')
    expect(codeOf(() => take(machine.open(), 'c'))).toBe('FENCED')
    expect(codeOf(() => BoxOwner.take(machine.open(), { name: 'daemon', daemon: true }))).toBe('FENCED')
  })
})

describe('the daemon', () => {
  it('finds the boxes whose owners are gone, and marks them', async () => {
    const machine = new Machine()
    const daemon = machine.open()
    const [dead, closed] = [machine.open(), machine.open()]
    take(dead, 'dead')
    take(closed, 'closed').close()
    take(machine.open(), 'living')
    expect(abandonedBoxes(daemon)).toEqual([])
    machine.kill(dead)
    expect(abandonedBoxes(daemon)).toMatchObject([{ box: 1, entry: { name: 'dead', generation: 1 } }])
    markExited(daemon, 1, 1)
    expect(abandonedBoxes(daemon)).toEqual([])
    expect(await entryOf(machine, 1)).toMatchObject({ exited: true })
    const next = machine.open()
    take(next, 'dead')
    expect(await entryOf(machine, 1)).toMatchObject({ exited: false, generation: 2 })
    machine.kill(next)
    expect(abandonedBoxes(daemon)).toHaveLength(1)
  })
})

describe('sensors', () => {
  it('move with each beat, and show what they are told', async () => {
    const machine = new Machine()
    const owner = take(machine.open())
    const progress = owner.sensor({ name: 'requests', kind: 'progress', deadlineUs: 250_000 })
    const level = owner.sensor({ name: 'memory', kind: 'level', deadlineUs: 0 })
    for (let beat = 0; beat < 3; beat++) progress.beat()
    progress.pending(9)
    level.level(0.25, 0.9)
    expect(owner.sensor({ name: 'memory', kind: 'level', deadlineUs: 0 })).toBe(level)
    const [box] = await readSensors(new BytesMemory(machine.bytes), owner.region.header, [owner.box])
    expect(box).toEqual({
      corrupt: 0,
      sensors: [
        { name: 'requests', kind: 'progress', deadlineUs: 250_000, cell: 0, counter: 3, pending: 9, value: 0, limit: 0 },
        { name: 'memory', kind: 'level', deadlineUs: 0, cell: 1, counter: 0, pending: 1, value: 0.25, limit: 0.9 },
      ],
    })
  })

  it('wrap at 32 bits', () => {
    const machine = new Machine()
    const owner = take(machine.open())
    const sensor = owner.sensor({ name: 'requests', kind: 'progress', deadlineUs: 1 })
    const counter = new Uint32Array(machine.bytes.buffer, boxOffset(owner.region.header.plan, 1), 1)
    counter[0] = 0xffff_ffff
    sensor.beat()
    expect(counter[0]).toBe(0)
  })

  it('are exhausted when the box has no cell left', () => {
    const owner = take(new Machine().open())
    for (let i = 0; i < 4; i++) owner.sensor({ name: `s-${i}`, kind: 'progress', deadlineUs: 1 })
    expect(codeOf(() => owner.sensor({ name: 's-4', kind: 'progress', deadlineUs: 1 }))).toBe('SENSORS_EXHAUSTED')
  })
})
