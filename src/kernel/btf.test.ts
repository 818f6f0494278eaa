import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isBackdoorsError } from '../errors.js'
import { Random } from '../fabric/mock/random.js'
import { damage } from '../region/testing/damage.js'
import { Btf } from './btf.js'
import { BtfBuilder } from './testing/btf-builder.js'
import { fuzz, fuzzTimeoutMs } from './testing/fuzz.js'

/** A kernel's structures in small: nested, anonymous, with bit fields, arrays, typedefs and modifiers. */
function smallKernel(): Uint8Array {
  const made = new BtfBuilder()
  const u32 = made.int('unsigned int', 4)
  const u64 = made.int('long unsigned int', 8)
  const char = made.int('char', 1)
  const pid = made.add('typedef', 'pid_t', made.add('typedef', '__kernel_pid_t', u32))
  const constant = made.add('const', '', made.add('volatile', '', u64))
  const comm = made.array(char, 16)
  const list = made.structure('struct', 'list_head', 16, [{ name: 'next', type: made.add('pointer', '', 10), bit: 0 }, { name: 'prev', type: 9, bit: 64 }])
  const union = made.structure('union', '', 8, [{ name: 'deep', type: constant, bit: 0 }, { name: 'shallow', type: u32, bit: 0 }])
  const anonymous = made.structure('struct', '', 16, [{ type: union, bit: 64 }])
  const flags = made.structure('struct', 'flags', 4, [{ name: 'low', type: u32, bit: 0, bits: 3 }, { name: 'high', type: u32, bit: 11, bits: 2 }])
  const rows = made.array(made.array(u32, 4), 3)
  made.add('forward', 'task_struct', 0)
  made.add('typedef', 'task_struct', u32)
  made.structure('struct', 'task_struct', 160, [
    { name: 'pid', type: pid, bit: 0 }, { name: 'comm', type: comm, bit: 32 }, { name: 'tasks', type: list, bit: 192 },
    { type: anonymous, bit: 320 }, { name: 'flags', type: flags, bit: 448 }, { name: 'rows', type: rows, bit: 512 },
  ])
  made.enumeration('pid_type', { PIDTYPE_PID: 0, PIDTYPE_TGID: 1 })
  made.enumeration('', { MM_FILEPAGES: 0, MM_SHMEMPAGES: 3, PIDTYPE_PID: 9, BELOW: -2 })
  return made.bytes()
}

describe('a kernel\'s types', () => {
  const btf = new Btf(smallKernel())

  it('include the values of enums, of those without a name too, and of several of one name the first', () => {
    expect(['PIDTYPE_TGID', 'MM_SHMEMPAGES', 'PIDTYPE_PID', 'BELOW', 'pid_type', ''].map((name) => btf.constant(name))).toEqual([1, 3, 0, -2, undefined, undefined])
  })

  it.each<[string, number, number]>([
    ['pid', 0, 4], ['comm', 4, 16], ['comm[15]', 19, 1], ['tasks', 24, 16], ['tasks.prev', 32, 8], ['deep', 48, 8], ['shallow', 48, 4], ['rows[2]', 96, 16], ['rows[2][3]', 108, 4],
  ])('task_struct.%s is at %d, with %d bytes', (path, offset, length) => {
    expect(btf.member('task_struct', path)).toMatchObject({ offset, length })
    expect(btf.member('task_struct', path)).not.toHaveProperty('bitField')
  })

  it('tells where bit fields are', () => {
    expect(btf.member('task_struct', 'flags.low')).toMatchObject({ offset: 56, bitField: { shift: 0, bits: 3 } })
    expect(btf.member('task_struct', 'flags.high')).toMatchObject({ offset: 57, bitField: { shift: 3, bits: 2 } })
  })

  it.each<[string, number[]]>([
    ['pid', [0]], ['tasks.next', [24]], ['tasks.next.prev', [24, 8]], ['tasks.prev.next.next', [32, 0, 0]],
  ])('task_struct.%s is reached by members at %j, through pointers', (path, offsets) => {
    expect(btf.steps('task_struct', path)?.map(({ offset }) => offset)).toEqual(offsets)
    expect(btf.member('task_struct', path)?.offset).toBe(offsets.length === 1 ? offsets[0] : undefined)
  })

  it.each(['tasks.next.absent', 'tasks.next.next.', 'pid.next', 'absent.next'])('lead nowhere by task_struct.%s', (path) => {
    expect(btf.steps('task_struct', path)).toBeUndefined()
  })

  it('say which numbers have a sign, behind typedefs too', () => {
    const made = new BtfBuilder()
    const ids = [made.int('short', 2, true), made.int('u16', 2), made.enumeration('', { BELOW: -2 }), made.enumeration('', { ABOVE: 2 }), made.add('typedef', 's16', 1), made.add('pointer', '', 1)]
    expect([0, ...ids].map((id) => new Btf(made.bytes()).isSigned(id))).toEqual([false, true, false, true, false, true, false])
  })

  it('have arrays without a length, whose elements are numbered on', () => {
    const made = new BtfBuilder()
    made.structure('struct', 'open', 8, [{ name: 'rest', type: made.array(made.int('u32', 4), 0), bit: 64 }])
    expect(new Btf(made.bytes()).member('open', 'rest[3]')).toMatchObject({ offset: 20, length: 4 })
  })

  it.each(['absent', 'comm[16]', 'comm[x]', 'comm[', 'pid[0]', 'pid.x', 'tasks.', '', 'comm.x'])('has no task_struct.%s', (path) => {
    expect(btf.member('task_struct', path)).toBeUndefined()
  })

  it('knows structures by name, and what pointers point to', () => {
    expect(btf.find('task_struct')).toMatchObject({ kind: 'struct', name: 'task_struct' })
    expect(btf.find('nothing')).toBeUndefined()
    expect(btf.member('nothing', 'pid')).toBeUndefined()
    const next = btf.member('list_head', 'next')
    expect(btf.type(btf.targetOf(next?.type ?? 0) ?? 0)).toMatchObject({ kind: 'struct', name: 'list_head' })
  })

  it('are the same by an index that was kept, wherever in memory it stands', () => {
    const again = new Btf(smallKernel(), Uint8Array.of(0, ...btf.index).subarray(1))
    expect(again.size).toBe(btf.size)
    expect(again.member('task_struct', 'flags.high')).toEqual(btf.member('task_struct', 'flags.high'))
    expect(again.constant('MM_SHMEMPAGES')).toBe(3)
    expect(again.find('nothing')).toBeUndefined()
    expect(again.index).toEqual(btf.index)
  })

  it('go before typedefs of the same name', () => {
    const made = new BtfBuilder()
    made.add('typedef', 'twice', 2)
    made.structure('struct', 'twice', 8, [])
    made.add('typedef', 'twice', 2)
    expect(new Btf(made.bytes()).find('twice')).toMatchObject({ id: 2, kind: 'struct' })
  })
})

describe('damaged types', () => {
  it.each<[string, (bytes: Uint8Array) => Uint8Array]>([
    ['another magic', (bytes) => bytes.fill(0, 0, 2)],
    ['another version', (bytes) => bytes.fill(9, 2, 3)],
    ['a section beyond the end', (bytes) => bytes.fill(0xff, 12, 16)],
    ['a header that is cut off', (bytes) => bytes.subarray(0, 20)],
    ['nothing', () => new Uint8Array(0)],
    ['a kind that is none', (bytes) => bytes.fill(0x1f, 24 + 7, 24 + 8)],
  ])('with %s are refused', (_what, spoil) => {
    expect(() => new Btf(spoil(smallKernel()))).toThrow(expect.objectContaining({ code: 'KERNEL_DATA_CORRUPT' }))
  })

  it.each([new Uint8Array(0), new Uint8Array(7), new Uint8Array(64), new Btf(smallKernel()).index.subarray(4)])('are not found by an index that is none (%#)', (index) => {
    expect(() => new Btf(smallKernel(), index)).toThrow(expect.objectContaining({ code: 'KERNEL_DATA_CORRUPT' }))
  })

  it('that lead in a circle end with an error', () => {
    const made = new BtfBuilder()
    made.add('typedef', 'a', 2)
    made.add('typedef', 'b', 1)
    const self = made.structure('struct', 's', 8, [{ type: 3, bit: 0 }])
    made.array(4, 2)
    const btf = new Btf(made.bytes())
    expect(self).toBe(3)
    for (const run of [() => btf.resolve(1), () => btf.member('s', 'x'), () => btf.sizeOf(4), () => btf.type(99)]) expect(run).toThrow(expect.objectContaining({ code: 'KERNEL_DATA_CORRUPT' }))
  })

  it('give an error or an answer, never a crash or a hang', { timeout: fuzzTimeoutMs }, () => {
    const sound = smallKernel()
    fc.assert(fc.property(fc.nat(), (number) => {
      const random = new Random(number)
      const bytes = sound.slice()
      for (let i = random.integer(1, 3); i > 0; i--) damage(random.chance(0.3) ? bytes : bytes.subarray(24), random)
      try {
        const btf = new Btf(bytes)
        for (const path of ['pid', 'comm[3]', 'tasks.next', 'deep', 'flags.high', 'rows[1][1]']) {
          const found = btf.member('task_struct', path)
          if (found) expect(Number.isSafeInteger(found.offset + found.length)).toBe(true)
        }
        for (const { type } of btf.steps('task_struct', 'tasks.next.prev') ?? []) btf.isSigned(type)
        for (let id = 0; id <= btf.size; id++) btf.sizeOf(id)
        btf.constant('BELOW')
      } catch (error) {
        if (!isBackdoorsError(error, 'KERNEL_DATA_CORRUPT')) throw error
      }
    }), fuzz(10_000))
  })
})
