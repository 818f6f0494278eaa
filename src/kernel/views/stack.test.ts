import { describe, expect, it } from 'vitest'
import { isBackdoorsError } from '../../errors.js'
import { fuzzTimeoutMs } from '../testing/fuzz.js'
import { surviveDamage, withBytes } from '../testing/hostile-memory.js'
import { panickedHost, reported } from '../testing/panicked-host.js'
import { unwindTask, unwindTasks } from './stack.js'
import { readTasks, type Task } from './tasks.js'

const host = await panickedHost()
const { tasks } = await readTasks(host, { threads: true })
const named = (name: string): Task => tasks.find(({ comm }) => comm === name) as Task
const pointer = (value: bigint): Uint8Array => new Uint8Array(BigUint64Array.of(value).buffer)
const member = (task: Task, path: string): bigint => task.address + BigInt(host.types.member('task_struct', path)?.offset ?? 0)

describe('kernel stacks of a host that panicked', () => {
  it('are what /proc/PID/stack had said, and the scheduler that it leaves out', async () => {
    const { frames, cutShort } = await unwindTask(host, named('stack'))
    const said = (reported['stacks'] as string).trimEnd().split('\n').map((line) => line.replace('[<0>] ', ''))
    expect(frames.map(({ text }) => text)).toEqual([expect.stringMatching(/^__schedule\+/), expect.stringMatching(/^schedule\+/), ...said])
    expect(cutShort).toBeUndefined()
  })

  it('end where user space entered, or where a thread began, but for what runs or sleeps in a module', async () => {
    const stacks = await unwindTasks(host, tasks)
    const whole = stacks.flatMap((stack, i) => (!isBackdoorsError(stack) && stack.cutShort === undefined ? [{ task: tasks[i] as Task, last: stack.frames.at(-1)?.text ?? '' }] : []))
    expect(whole.filter(({ task, last }) => !last.startsWith(task.isKernelThread ? 'ret_from_fork' : 'entry_SYSCALL_64'))).toEqual([])
    const others = stacks.flatMap((stack, i) => (isBackdoorsError(stack) || stack.cutShort === undefined ? [] : [[tasks[i]?.comm, stack.cutShort]]))
    expect(others).toEqual([['node', expect.stringContaining('is not in the kernel\'s own text')], ['sh', 'it runs: its registers are in its CPU']])
  })

  it('cost as many batches as the deepest has frames, and not one for each task', async () => {
    const { cost } = host.physical
    const before = cost.operations
    await unwindTasks(host, tasks)
    expect(cost.operations - before).toBeLessThan(tasks.length * 12)
  })
})

describe('damaged stacks', () => {
  const task = named('stack')

  it.each<[string, string, bigint]>([
    ['points elsewhere', 'thread.sp', 0xffff_8880_0000_0000n], ['is not aligned', 'thread.sp', 0xffff_8880_0000_0001n], ['is nowhere', 'thread.sp', 0n],
  ])('have no frames where the stack pointer %s', async (_, path, value) => {
    expect(await unwindTask(await withBytes(host, member(task, path), pointer(value)), task)).toEqual({ frames: [], cutShort: 'its stack pointer does not point into its stack' })
  })

  it('show the first return address, and end there where it is none', async () => {
    const sp = await host.memory.read(member(task, 'thread.sp'), 8)
    const frame = new DataView(sp.buffer, sp.byteOffset, 8).getBigUint64(0, true)
    const at = frame + BigInt(host.types.member('inactive_task_frame', 'ret_addr')?.offset ?? 0)
    const stack = await unwindTask(await withBytes(host, at, pointer(0x1234n)), task)
    expect(stack).toEqual({ frames: [{ address: 0x1234n, text: '0x1234' }], cutShort: expect.stringContaining('nothing tells how to unwind 0x1234') as string })
  })

  it('of a task that is nowhere are an error', async () => {
    await expect(unwindTask(host, { address: 0x1000n })).rejects.toMatchObject({ code: 'NOT_MAPPED' })
  })

  it('give an answer or an error, and an end', { timeout: fuzzTimeoutMs }, async () => {
    await surviveDamage(host, [10, 100], 300, async (image) => await unwindTasks(image, tasks), (stacks) => {
      for (const stack of stacks) if (!isBackdoorsError(stack)) expect(stack.frames.length).toBeLessThanOrEqual(128)
    })
  })
})
