import { describe, expect, it } from 'vitest'
import { KernelObject, Selection } from './kernel-object.js'
import type { KernelImage } from './kernel-image.js'
import { surviveDamage, withBytes } from './testing/hostile-memory.js'
import { counted } from './testing/only-our-errors.js'
import { panickedHost, reported } from './testing/panicked-host.js'
import { findTask } from './views/find-task.js'

const host = await panickedHost()
/** The process that pauses in two threads, and a thread of the kernel. */
const [stack, kthreadd] = [175, 2]
const plain = new Selection(host.types, 'task_struct', ['pid'])
const withSignal = new Selection(host.types, 'task_struct', ['pid', 'signal'])

async function taskOf(image: KernelImage, pid: number, selection = plain): Promise<KernelObject> {
  const task = await findTask(image, pid, selection)
  if (task === undefined) throw new Error(`no task ${pid}`)
  return task
}

const offsetOf = (structure: string, member: string): bigint => BigInt(host.types.member(structure, member)?.offset ?? NaN)
const pointer = (value: bigint): Uint8Array => new Uint8Array(BigUint64Array.of(value).buffer)

describe('a member beyond pointers', () => {
  it('is read by its path', async () => {
    const task = await taskOf(host, stack)
    expect(await task.field('signal.oom_score_adj')).toBe(0n)
    expect(await task.field('signal.nr_threads')).toBe(2n)
    expect(await task.field('mm.owner.group_leader.pid')).toBe(BigInt(stack))
    expect(await task.field('signal.pids[2].numbers[0].nr')).toBe(BigInt(stack))
  })

  it('has the sign of its type', async () => {
    const signal = await (await taskOf(host, stack)).field('signal')
    const image = await withBytes(host, signal + offsetOf('signal_struct', 'oom_score_adj'), new Uint8Array(Int16Array.of(-1000).buffer))
    expect(await (await taskOf(image, stack)).field('signal.oom_score_adj')).toBe(-1000n)
    expect(signal).toBeGreaterThan(1n << 63n)
  })

  it('is what ps had said of the parents of all threads', async () => {
    const lines = (reported['ps'] as string).trimEnd().split('\n').slice(1).map((line) => line.trim().split(/\s+/, 3).map(Number) as [number, number, number])
    const found = await Promise.all(lines.map(async ([, thread, parent]) => {
      const task = await findTask(host, thread, plain)
      return task === undefined ? parent : Number(await task.field('real_parent.tgid'))
    }))
    expect(found).toEqual(lines.map(([, , parent]) => parent))
  })

  it('costs a read for each pointer on the way, but for what was selected', async () => {
    const { image, batches } = counted(host)
    for (const [selection, reads] of [[plain, 2], [withSignal, 1]] as const) {
      const task = await taskOf(image, stack, selection)
      await task.field('signal.nr_threads')
      const before = batches()
      expect([await task.field('signal.nr_threads'), batches() - before]).toEqual([2n, reads])
    }
  })

  it('may be a bit field, and what was selected is as it was read', async () => {
    const task = await taskOf(host, stack, new Selection(host.types, 'task_struct', ['pid', 'in_execve', 'static_prio']))
    const [execve, priority] = await Promise.all(['in_execve', 'static_prio'].map((path) => task.field(path)))
    expect([execve, priority, await (await taskOf(host, stack)).field('in_execve')]).toEqual([0n, 120n, task.unsigned('in_execve')])
  })

  it('is not there where a pointer is NULL', async () => {
    await expect((await taskOf(host, kthreadd)).field('mm.owner.pid')).rejects.toMatchObject({ code: 'NOT_MAPPED', details: { address: 0n, field: 'task_struct.mm.owner.pid' } })
  })

  it.each([['is not mapped', 0xffff_8000_0000_1000n], ['is no address', 0x1234_5678_9abc_def0n], ['is the last of all addresses', (1n << 64n) - 1n], ['is of the first page', 8n]])('is not there where a pointer %s', async (_, value) => {
    const { address } = await taskOf(host, stack)
    const image = await withBytes(host, address + offsetOf('task_struct', 'signal'), pointer(value))
    for (const selection of [plain, withSignal]) {
      await expect(image.readObject(selection, address).then((task) => task.field('signal.oom_score_adj'))).rejects.toMatchObject({ code: 'NOT_MAPPED', details: { address: BigInt.asUintN(64, value + offsetOf('signal_struct', 'oom_score_adj')) } })
    }
  })

  it.each(['nothing', 'signal.nothing', 'pid.nr', 'signal.', 'comm[99]', 'stack.x'])('that no kernel has (%s) is refused', async (path) => {
    await expect((await taskOf(host, stack)).field(path)).rejects.toMatchObject({ code: 'KERNEL_UNSUPPORTED', details: { field: `task_struct.${path}` } })
  })

  it.each(['comm', 'signal.rlim', 'mm.owner.comm'])('that is no number (%s) is refused', async (path) => {
    await expect((await taskOf(host, stack, new Selection(host.types, 'task_struct', ['pid', 'comm']))).field(path)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', details: { field: `task_struct.${path}` } })
  })

  it('of bytes that came from elsewhere is what was selected, and no more', async () => {
    const { address } = await taskOf(host, stack)
    const task = KernelObject.of(plain, address, await host.memory.read(address, plain.offsetOf('pid') + 4))
    expect(await task.field('pid')).toBe(BigInt(stack))
    await expect(task.field('signal.nr_threads')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', details: { field: 'task_struct.signal.nr_threads' } })
  })

  it('damaged on the way gives an answer or an error', async () => {
    const { address } = await taskOf(host, stack)
    await surviveDamage(host, [1, 4], 300, async (image) => await (await image.readObject(plain, address)).field('mm.owner.signal.pids[2].numbers[0].nr'))
  })
})

describe('a selection', () => {
  it.each([['signal.nr_threads', 'This kernel\'s struct task_struct leads to signal.nr_threads through a pointer, which only KernelObject.field follows.'], ['nothing', 'This kernel\'s struct task_struct has no member nothing.']])('of %s is refused, and says why', (path, message) => {
    expect(() => new Selection(host.types, 'task_struct', ['pid', path])).toThrow(expect.objectContaining({ code: 'KERNEL_UNSUPPORTED', message, details: { field: `task_struct.${path}` } }))
    expect(new Selection(host.types, 'task_struct', ['pid'], [path]).has(path)).toBe(false)
  })
})
