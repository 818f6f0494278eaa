import { describe, expect, it } from 'vitest'
import { Selection } from '../kernel-object.js'
import { x86FourLevel } from '../page-table-format.js'
import { BtfBuilder } from '../testing/btf-builder.js'
import { imageOver } from '../testing/built-image.js'
import { withBytes } from '../testing/hostile-memory.js'
import { counted, expectOnlyOurErrors } from '../testing/only-our-errors.js'
import { panickedHost, reported } from '../testing/panicked-host.js'
import { PageTables } from '../testing/page-tables.js'
import { findTask, readThreads } from './find-task.js'
import { formatMapping, readMaps, readVmas } from './maps.js'

const host = await panickedHost()
/** The process with the known stack, and that with many mappings and threads. */
const [stack, node] = [175, 174]
const print = async (image: typeof host, pid: number): Promise<string> => (await readMaps(image, pid)).mappings.map((mapping) => `${formatMapping(mapping)}\n`).join('')
const pointer = (value: bigint): Uint8Array => new Uint8Array(BigUint64Array.of(value).buffer)
const offsetOf = (structure: string, member: string): bigint => BigInt(host.types.member(structure, member)!.offset)

describe('the mappings of a process', () => {
  it.each([[stack, 'maps'], [node, 'nodemaps']])('of %i are those that the host printed, byte for byte', async (pid, name) => {
    expect(await print(host, pid)).toBe(reported[name]!)
    expect((await readMaps(host, pid)).faults).toEqual([])
  })

  it('are those of its process, for a thread', async () => {
    expect(await print(host, 181)).toBe(reported['maps']!)
  })

  it('are none of a thread of the kernel', async () => {
    expect(await readMaps(host, 2)).toEqual({ mappings: [], faults: [] })
  })

  it.each([4_000_000, 0, -1])('are refused of the process %i, which is not there', async (pid) => {
    await expect(readMaps(host, pid)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', details: { field: 'pid' } })
  })

  it('are read in few batches, however many there are', async () => {
    const { image, batches } = counted(host)
    await readMaps(image, node)
    expect(batches()).toBeLessThan(100)
  })
})

describe('damaged mappings', async () => {
  const task = (await findTask(host, stack))!
  const mm = task.pointer('mm')
  const { vmas } = await readVmas(host, mm)

  it('are left out where they cannot be, and said', async () => {
    const found = await readVmas(await withBytes(host, vmas[3]!.address + offsetOf('vm_area_struct', 'vm_end'), pointer(0x1001n)), mm)
    expect(found.vmas.length).toBe(vmas.length - 1)
    expect(found.faults).toMatchObject([{ code: 'KERNEL_DATA_CORRUPT', details: { address: vmas[3]!.address } }])
  })

  it.each<[string, bigint, string]>([['leads nowhere', 0x1002n | 0xc000_0000_0000n, 'NOT_MAPPED'], ['is of no known type', 0n, 'KERNEL_DATA_CORRUPT']])('are none where the tree\'s root %s', async (_, value, code) => {
    const at = mm + offsetOf('mm_struct', 'mm_mt.ma_root')
    const root = (await host.readObject(new Selection(host.types, 'mm_struct', ['mm_mt.ma_root']), mm)).pointer('mm_mt.ma_root')
    const found = await readVmas(await withBytes(host, at, pointer(value === 0n ? root | 0x78n : value)), mm)
    expect(found.vmas).toEqual([])
    expect(found.faults).toMatchObject([{ code }])
  })

  it('have no name where that cannot be read, and their neighbours keep theirs', async () => {
    const file = await host.readObject(new Selection(host.types, 'file', ['f_path.dentry']), vmas[0]!.file)
    const entry = file.pointer('f_path.dentry')
    const { mappings, faults } = await readMaps(await withBytes(host, entry + offsetOf('dentry', 'd_name.name'), pointer(0x1000n)), stack)
    expect(mappings.map(({ name }) => name).slice(4, 6)).toEqual([undefined, '[heap]'])
    expect(faults).toMatchObject([{ code: 'NOT_MAPPED' }])
  })

  it('have no name where their directories go in a circle', async () => {
    const file = await host.readObject(new Selection(host.types, 'file', ['f_path.dentry']), vmas[0]!.file)
    const selection = new Selection(host.types, 'dentry', ['d_parent'])
    const entry = await host.readObject(selection, file.pointer('f_path.dentry'))
    const { mappings, faults } = await readMaps(await withBytes(host, entry.pointer('d_parent') + offsetOf('dentry', 'd_parent'), pointer(entry.address)), stack)
    expect(mappings.map(({ name }) => name).slice(4, 6)).toEqual([undefined, '[heap]'])
    expect(faults).toMatchObject([{ code: 'KERNEL_DATA_CORRUPT' }])
  })

  it('cost only what cannot be read, wherever the damage is', async () => {
    await expectOnlyOurErrors(host, (image) => readMaps(image, node))
  })
})

describe('the mappings of a kernel before 6.1', () => {
  const types = new BtfBuilder()
  const word = types.add('pointer', '', 0)
  const node = types.structure('struct', 'rb_node', 24, ['rb_parent_color', 'rb_right', 'rb_left'].map((name, i) => ({ name, type: word, bit: i * 64 })))
  types.structure('struct', 'mm_struct', 8, [{ name: 'mm_rb', type: types.structure('struct', 'rb_root', 8, [{ name: 'rb_node', type: word, bit: 0 }]), bit: 0 }])
  types.structure('struct', 'vm_area_struct', 80, [{ name: 'vm_rb', type: node, bit: 0 }, ...['vm_start', 'vm_end', 'vm_flags', 'vm_pgoff', 'vm_file', 'vm_ops', 'vm_private_data'].map((name, i) => ({ name, type: word, bit: 192 + i * 64 }))])

  it('are read from their red-black tree, in order', async () => {
    const tables = new PageTables(x86FourLevel)
    tables.map(0x10000n, 0x10000)
    const view = new DataView(tables.ram.buffer)
    view.setBigUint64(0x10000, 0x10100n, true)
    for (const [at, left, right, start] of [[0x10100, 0x10200n, 0x10300n, 0x2000n], [0x10200, 0n, 0n, 0x1000n], [0x10300, 0n, 0n, 0x8000n]] as const) {
      for (const [i, value] of [0n, right, left, start, start + 0x1000n, 0x75n].entries()) view.setBigUint64(at + i * 8, value, true)
    }
    const { vmas, faults } = await readVmas(imageOver(tables, types.bytes()), 0x10000n)
    expect([vmas.map(({ start, end, flags, givenName }) => [start, end, flags, givenName]), faults]).toEqual([[0x1000n, 0x2000n, 0x8000n].map((start) => [start, start + 0x1000n, 0x75n, 0n]), []])
  })

  it('are not known of a kernel that has neither tree', async () => {
    const none = new BtfBuilder()
    none.structure('struct', 'mm_struct', 8, [])
    await expect(readVmas(imageOver(new PageTables(x86FourLevel), none.bytes()), 0x10000n)).rejects.toMatchObject({ code: 'KERNEL_UNSUPPORTED', details: { field: 'mm_struct.mm_mt' } })
  })
})

describe('one task among all', () => {
  it('is found by its number, also that of a thread', async () => {
    expect((await findTask(host, stack))?.text('comm')).toBe('stack')
    expect((await findTask(host, 181))?.signedNumber('tgid')).toBe(stack)
    expect(await findTask(host, 4_000_000)).toBeUndefined()
  })

  it('is found in the list of processes where the numbers are damaged', async () => {
    const at = host.addressOf('init_pid_ns') + offsetOf('pid_namespace', 'idr.idr_rt.xa_head')
    expect((await findTask(await withBytes(host, at, pointer(0x1002n)), stack))?.text('comm')).toBe('stack')
  })

  it('has the threads that ps listed', async () => {
    const task = (await findTask(host, node))!
    const threads = await readThreads(host, task.pointer('signal'), new Selection(host.types, 'task_struct', ['pid', 'thread_node.next']), [])
    const listed = reported['ps']!.split('\n').filter((line) => line.trim().startsWith(`${node} `)).map((line) => Number(/^\s*\d+\s+(\d+)/.exec(line)![1]))
    expect(threads.map((thread) => thread.signedNumber('pid'))).toEqual(listed)
  })
})
