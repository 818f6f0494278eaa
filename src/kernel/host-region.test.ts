import { describe, expect, it } from 'vitest'
import { readBootIdentity } from './boot-identity.js'
import { findHostRegion, hasSamePages, revisitHostRegion, type HostRegion } from './host-region.js'
import { HostBuilder, regionPages, type BuiltFile, type BuiltMapping, type BuiltProcess } from './testing/host-builder.js'
import { surviveDamage } from './testing/hostile-memory.js'
import { panickedHost } from './testing/panicked-host.js'

const host = await panickedHost()
const start = 0x7f12_3456_7000n
const elsewhere = 0x5555_0000_0000n
const wanted = { node: 'a', owner: 0 }
const placesOf = (frames: readonly (number | undefined)[]): number[] => frames.map((frame) => (frame ?? NaN) * 4096)

/** A daemon that maps its region, beside what else it maps. */
function withDaemon(options: Partial<BuiltMapping> = {}): { machine: HostBuilder; frames: number[]; daemon: BuiltProcess } {
  const machine = new HostBuilder(host)
  const frames = machine.addRegion()
  const daemon = machine.addProcess([{ start: elsewhere, frames: machine.addFrames(3), flags: 0x3n }, { start, frames, ...options }])
  return { machine, frames, daemon }
}

describe('the region of a host', () => {
  it('is found by the mapping of its daemon, with its pages wherever they lie', async () => {
    const { machine, frames, daemon: { mm, pgd } } = withDaemon()
    const { region, faults } = await findHostRegion(machine.image(), wanted)
    expect([[...(region as HostRegion).pages], region?.mappedBy, faults]).toEqual([placesOf(frames), { mm, pgd, start }, []])
    expect(region?.header).toMatchObject({ node: 'a', cluster: 'test', incarnation: 7n })
  })

  it('may be of any user, if that is who it is asked for', async () => {
    const { machine } = withDaemon()
    const frames = machine.addRegion('a', 8n)
    machine.addProcess([{ start, frames, file: machine.addFile({ uid: 1000 }) }])
    expect((await findHostRegion(machine.image(), { node: 'a', owner: 1000 })).region?.header.incarnation).toBe(8n)
    expect(await findHostRegion(machine.image(), { node: 'a', owner: 1001 })).toEqual({ region: undefined, faults: [] })
  })

  it.each<[string, BuiltFile]>([
    ['another user', { uid: 1000 }], ['its owner, and its group may read', { mode: 0o100_640 }], ['its owner, and its group may write', { mode: 0o100_620 }], ['its owner, and anybody may open', { mode: 0o100_601 }],
  ])('is no file of %s', async (_, file) => {
    const machine = new HostBuilder(host)
    machine.addProcess([{ start, frames: machine.addRegion(), file: machine.addFile(file) }])
    expect(await findHostRegion(machine.image(), wanted)).toEqual({ region: undefined, faults: [] })
  })

  it.each<[string, Partial<BuiltMapping>]>([
    ['that is private', { flags: 0x2n }], ['that cannot be written to', { flags: 0x8n }], ['of no file', { file: 0n }], ['of the middle of a file', { pageOffset: 1n }],
    ['of a file that is nowhere', { file: 0x1000n }],
  ])('is no mapping %s', async (_, mapping) => {
    expect(await findHostRegion(withDaemon(mapping).machine.image(), wanted)).toEqual({ region: undefined, faults: [] })
  })

  it('is no mapping that is shorter than the region says that it is, or of another node, or that begins otherwise', async () => {
    const machine = new HostBuilder(host)
    const [whole, other] = [machine.addRegion(), machine.addRegion('b')]
    machine.addProcess([{ start, frames: whole.slice(0, -1) }, { start: start + (1n << 20n), frames: other }, { start: start + (2n << 20n), frames: machine.addFrames(regionPages) }])
    expect(await findHostRegion(machine.image(), wanted)).toEqual({ region: undefined, faults: [] })
    expect((await findHostRegion(machine.image(), { node: 'b', owner: 0 })).region?.mappedBy.start).toBe(start + (1n << 20n))
  })

  it('is not looked for in what a thread of the kernel has borrowed', async () => {
    const { machine, daemon } = withDaemon()
    machine.set('task_struct', daemon.task, 'mm', 0n)
    machine.addKernelThread(daemon.mm)
    expect(await findHostRegion(machine.image(), wanted)).toEqual({ region: undefined, faults: [] })
  })
})

describe('a mapping with holes', () => {
  /** A server has touched but some of its pages. */
  const holed = (frames: readonly number[]): (number | undefined)[] => frames.map((frame, i) => (i === 4 ? undefined : frame))

  it('is passed over for the daemon\'s, which has all pages', async () => {
    const machine = new HostBuilder(host)
    const [frames, file] = [machine.addRegion(), machine.addFile()]
    machine.addProcess([{ start: elsewhere, frames: holed(frames), file }])
    const { mm } = machine.addProcess([{ start, frames, file }])
    machine.addProcess([{ start: elsewhere, frames: holed(frames), file }])
    const { region, faults } = await findHostRegion(machine.image(), wanted)
    expect([region?.mappedBy, [...(region as HostRegion).pages], faults]).toEqual([{ mm, pgd: expect.any(BigInt) as bigint, start }, placesOf(frames), []])
  })

  it('alone is no region, and that it is there is told', async () => {
    const machine = new HostBuilder(host)
    machine.addProcess([{ start, frames: holed(machine.addRegion()) }])
    expect(await findHostRegion(machine.image(), wanted)).toMatchObject({ region: undefined, faults: [{ code: 'NOT_MAPPED', details: { peer: 'bytes' } }] })
  })

  it('of which even the header is missing is none', async () => {
    const { machine, daemon } = withDaemon()
    machine.mapPage(daemon, start, undefined)
    expect(await findHostRegion(machine.image(), wanted)).toEqual({ region: undefined, faults: [] })
  })
})

describe('of several regions', () => {
  it.each([[[5, 9, 7], 9], [[9, 5], 9], [[5, 9], 9], [[2 ** 31 - 1, 2 ** 32 - 1], 2 ** 32 - 1]])('with the inodes %j, the newest counts', async (inodes, newest) => {
    const machine = new HostBuilder(host)
    for (const inode of inodes) machine.addProcess([{ start, frames: machine.addRegion('a', BigInt(inode)), file: machine.addFile({ inode }) }])
    expect((await findHostRegion(machine.image(), wanted)).region?.header.incarnation).toBe(BigInt(newest))
  })
})

describe('a damaged host', () => {
  it('has the region all the same where other processes cannot be looked into', async () => {
    const machine = new HostBuilder(host)
    const [first, second] = [1, 2].map(() => machine.addProcess([{ start, frames: machine.addRegion('b') }])) as [BuiltProcess, BuiltProcess]
    machine.set('mm_struct', first.mm, 'pgd', 0x1000n)
    machine.set('task_struct', second.task, 'mm', 0x2000n)
    machine.addProcess([{ start, frames: machine.addRegion() }])
    const { region, faults } = await findHostRegion(machine.image(), wanted)
    expect(region?.header.node).toBe('a')
    expect(faults.map(({ code, details }) => [code, details.address]).sort()).toEqual([['NOT_MAPPED', 0x1000n], ['NOT_MAPPED', 0x2000n + BigInt(host.types.member('mm_struct', 'pgd')?.offset ?? NaN)]].sort())
  })

  it('gives an answer or an error, and always an end', async () => {
    const { machine } = withDaemon()
    await surviveDamage(machine.image(), [3, 20], 300, (image) => findHostRegion(image, wanted), ({ region }) => expect([undefined, 'a']).toContain(region?.header.node))
  })
})

describe('a region that is looked at again', () => {
  async function found(): Promise<{ machine: HostBuilder; frames: number[]; daemon: BuiltProcess; region: HostRegion }> {
    const made = withDaemon()
    return { ...made, region: (await findHostRegion(made.machine.image(), wanted)).region as HostRegion }
  }

  it('is the same while nothing has happened', async () => {
    const { machine, region } = await found()
    const again = (await revisitHostRegion(machine.image(), region)) as HostRegion
    expect([again, hasSamePages(again, region)]).toEqual([region, true])
  })

  it('has other pages where one of them was moved', async () => {
    const { machine, region, daemon, frames } = await found()
    const [moved] = machine.addFrames(1) as [number]
    machine.mapPage(daemon, start + 5n * 4096n, moved)
    const again = (await revisitHostRegion(machine.image(), region)) as HostRegion
    expect([[...again.pages], hasSamePages(again, region), hasSamePages(region, again)]).toEqual([placesOf(frames.with(5, moved)), false, false])
  })

  it.each<[string, (made: Awaited<ReturnType<typeof found>>) => void]>([
    ['the process has ended, and its memory is another\'s', ({ machine, daemon }) => machine.set('mm_struct', daemon.mm, 'pgd', daemon.pgd + 4096n)],
    ['a page is gone', ({ machine, daemon }) => machine.mapPage(daemon, start + 6n * 4096n, undefined)],
    ['the region was made anew', ({ machine, frames }) => machine.writeHeader(frames, 'a', 8n)],
    ['its header is gone', ({ machine, daemon }) => machine.mapPage(daemon, start, machine.addFrames(1)[0])],
  ])('is not there where %s', async (_, happen) => {
    const made = await found()
    happen(made)
    expect(await revisitHostRegion(made.machine.image(), made.region)).toBeUndefined()
  })

  it.each<[string, Partial<HostRegion['mappedBy']>]>([['its process', { mm: 0x1000n }], ['its page tables', { pgd: 0x1000n }], ['its mapping', { start: elsewhere + (1n << 30n) }]])('is not there where %s cannot be reached', async (_, part) => {
    const { machine, region, daemon } = await found()
    if (part.pgd !== undefined) machine.set('mm_struct', daemon.mm, 'pgd', part.pgd)
    expect(await revisitHostRegion(machine.image(), { ...region, mappedBy: { ...region.mappedBy, ...part } })).toBeUndefined()
  })

  it('may be where it was on a machine that was started anew: that is told by its boot', async () => {
    const { machine, region } = await found()
    const before = await readBootIdentity(machine.image())
    expect(await readBootIdentity(machine.image())).toBe(before)
    machine.set('task_struct', machine.initTask, 'stack_canary', 0x1234n)
    expect(await readBootIdentity(machine.image())).not.toBe(before)
    expect(hasSamePages((await revisitHostRegion(machine.image(), region)) as HostRegion, region)).toBe(true)
  })
})
