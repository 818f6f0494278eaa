import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isBackdoorsError } from '../../errors.js'
import { Random } from '../../fabric/mock/random.js'
import { damage } from '../../region/testing/damage.js'
import type { KernelImage } from '../kernel-image.js'
import { surviveDamage, withChanges } from '../testing/hostile-memory.js'
import { LogBuilder, states } from '../testing/log-builder.js'
import { panickedHost, reported } from '../testing/panicked-host.js'
import { linesOf, readLog } from './log.js'
import { fuzz, fuzzTimeoutMs } from '../testing/fuzz.js'

const host = await panickedHost()
const texts = async (log: LogBuilder): Promise<string[]> => (await readLog(log.image())).entries.map(({ text }) => text)

describe('the log of a host that panicked', () => {
  it('is what dmesg printed before, line by line, and goes on to the end of the panic', async () => {
    const { entries, unfinished, lost, faults } = await readLog(host)
    const lines = entries.flatMap(linesOf)
    const before = (reported['dmesg'] as string).trimEnd().split('\n')
    expect(lines.slice(0, before.length)).toEqual(before)
    expect(lines.at(-1)).toContain('---[ end Kernel panic - not syncing: sysrq triggered crash ]---')
    expect({ unfinished, lost, faults }).toEqual({ unfinished: 0, lost: 0, faults: [] })
    expect(entries.map(({ sequence }) => sequence)).toEqual(entries.map((_, i) => BigInt(i)))
  })

  it('has every line that the console showed', async () => {
    const lines = new Set((await readLog(host)).entries.flatMap(linesOf).map((line) => line.trimEnd()))
    const console = readFileSync(new URL('../testing/recorded/console.log', import.meta.url), 'utf8')
    const shown = console.split(/\r?\n/).map((line) => line.trimEnd()).filter((line) => /^\[ +\d+\.\d{6}\]/.test(line))
    expect(shown.length).toBeGreaterThan(30)
    expect(shown.filter((line) => !lines.has(line))).toEqual([])
  })

  it('says who wrote a message, how urgent it is, and of which device it speaks', async () => {
    const { entries } = await readLog(host)
    expect(entries.find(({ text }) => text.startsWith('Kernel panic'))).toMatchObject({ level: 0, facility: 0, caller: { task: 231 } })
    expect(entries.find(({ text }) => text.startsWith('acpi PNP0A03'))).toMatchObject({ level: 6, device: { subsystem: 'acpi', name: '+acpi:PNP0A03:00' } })
    expect(entries[0]).not.toHaveProperty('device')
  })
})

describe('a log made by hand', () => {
  it('keeps the lines of a message together', async () => {
    const log = new LogBuilder(host)
    log.add('first\nsecond')
    const [entry] = (await readLog(log.image())).entries
    expect(entry).toEqual({ sequence: 0n, timeNs: 0n, level: 0, facility: 0, caller: { task: 7 }, text: 'first\nsecond' })
    expect(entry && linesOf(entry)).toEqual(['[    0.000000] first', '[    0.000000] second'])
  })

  it.each([1, 17, 40, 500])('has the newest messages after %d of them, however often its rings went round', async (count) => {
    const log = new LogBuilder(host)
    const random = new Random(count)
    const all = Array.from({ length: count }, (_, i) => `${i} ${'x'.repeat(random.integer(0, 90))}`)
    for (const text of all) log.add(text)
    const found = await texts(log)
    expect(found.length).toBeGreaterThanOrEqual(Math.min(count, 4))
    expect(found).toEqual(all.slice(-found.length))
  })

  it('has a message that ends just where the ring does', async () => {
    const log = new LogBuilder(host)
    const begin = log.add('')
    log.setDescriptor(begin, 'text_blk_lpos.begin', 0n)
    log.setDescriptor(begin, 'text_blk_lpos.next', 512n)
    log.setInfo(begin, 'text_len', 504n)
    expect((await texts(log))[0]).toHaveLength(504)
  })

  it('has the line that a dying writer had committed, and counts those that were never written', async () => {
    const log = new LogBuilder(host)
    log.add('whole')
    log.add('never', states.reserved)
    log.add('to be continued', states.committed)
    const { entries, unfinished, faults } = await readLog(log.image())
    expect(entries.map(({ text, isOpen }) => [text, isOpen])).toEqual([['whole', undefined], ['to be continued', true]])
    expect([unfinished, faults]).toEqual([1, []])
  })

  it('leaves out a slot that its next writer has only just taken', async () => {
    const log = new LogBuilder(host)
    for (let i = 0; i < 20; i++) log.add(`message ${i}`)
    log.setRing('desc_ring.head_id', 20n)
    log.setRing('desc_ring.tail_id', 5n)
    expect(await texts(log)).toEqual(Array.from({ length: 15 }, (_, i) => `message ${i + 5}`))
  })

  it('shows an empty line, and counts a message that found no room', async () => {
    const log = new LogBuilder(host)
    for (const position of [3n, 1n]) {
      const id = log.add('')
      log.setDescriptor(id, 'text_blk_lpos.begin', position)
      log.setDescriptor(id, 'text_blk_lpos.next', position)
    }
    const { entries, lost, faults } = await readLog(log.image())
    expect([entries.map(({ text }) => text), lost, faults]).toEqual([[''], 1, []])
  })

  it.each<[string, (log: LogBuilder) => void]>([
    ['a position that is not aligned', (log) => log.setDescriptor(1n, 'text_blk_lpos.begin', 4n)],
    ['an end before its beginning', (log) => log.setDescriptor(1n, 'text_blk_lpos.next', 8n)],
    ['an end many rounds on', (log) => log.setDescriptor(1n, 'text_blk_lpos.next', 1n << 40n)],
    ['no room for the number of its block', (log) => log.setDescriptor(1n, 'text_blk_lpos.next', 16n)],
    ['the block of another message', (log) => log.setDescriptor(1n, 'text_blk_lpos.begin', 0n)],
    ['a number out of step', (log) => log.setInfo(1n, 'seq', 1n + (1n << 50n))],
  ])('leaves out a message with %s, says so, and loses none of its neighbours', async (_, harm) => {
    const log = new LogBuilder(host)
    for (const text of ['before', 'harmed', 'after', 'last']) log.add(text)
    harm(log)
    const { entries, faults } = await readLog(log.image())
    expect(entries.map(({ text }) => text)).toEqual(['before', 'after', 'last'])
    expect(faults).toMatchObject([{ code: 'KERNEL_DATA_CORRUPT', details: { field: 'prb' } }])
  })

  it('shows no more text than the block has, whatever length is claimed', async () => {
    const log = new LogBuilder(host)
    const id = log.add('12345678')
    log.setInfo(id, 'text_len', 0xffffn)
    expect(await texts(log)).toEqual(['12345678'])
  })

  it.each<[string, string, bigint]>([
    ['more messages than any has', 'desc_ring.count_bits', 40n], ['no messages', 'desc_ring.count_bits', 0n], ['more text than any has', 'text_data_ring.size_bits', 0xffff_ffffn],
    ['a head far from its tail', 'desc_ring.head_id', 1n << 61n],
  ])('is refused with %s', async (_, member, value) => {
    const log = new LogBuilder(host)
    log.add('message')
    log.setRing(member, value)
    await expect(readLog(log.image())).rejects.toMatchObject({ code: 'KERNEL_DATA_CORRUPT', details: { field: 'prb' } })
  })

  it('says what is missing where a part of it is not mapped', async () => {
    const log = new LogBuilder(host)
    log.add('message')
    log.setRing('text_data_ring.data', 0xffff_ffff_ffff_fff0n)
    const { entries, faults } = await readLog(log.image())
    expect(entries).toEqual([])
    expect(faults.map(({ code }) => code)).toEqual(['NOT_MAPPED', 'KERNEL_DATA_CORRUPT'])
  })

  it('comes to an end, with its messages in order, whatever stands in its memory', { timeout: fuzzTimeoutMs }, async () => {
    const log = new LogBuilder(host)
    for (let i = 0; i < 60; i++) log.add(`message ${i} of many`)
    const sound = log.ram.slice()
    await fc.assert(fc.asyncProperty(fc.nat(), async (seed) => {
      const random = new Random(seed)
      log.ram.set(sound)
      for (let i = random.integer(1, 4); i > 0; i--) damage(log.ram.subarray(20 * 4096, 28 * 4096), random)
      try {
        const { entries } = await readLog(log.image())
        expect(entries.every(({ sequence }, i) => i === 0 || sequence > (entries[i - 1]?.sequence ?? 0n))).toBe(true)
      } catch (error) {
        if (!isBackdoorsError(error)) throw error
      }
    }), fuzz(5000))
  })

  it('of the recorded host, damaged on the way, gives an answer or an error', async () => {
    await surviveDamage(host, [3, 20], 200, readLog, ({ entries }) => expect(entries.length).toBeLessThan(1 << 16))
  })
})

describe('a log that is written on while it is read', () => {
  const message = (number: number): string => `message ${number} of many`

  /**
   * Twelve messages, which nearly fill the ring of text; more are added as the log is read.
   * @param onAnswer is told of each part of an answer, which shows the memory as it was before, and may bring it up to date
   */
  function moving(onAnswer: (part: { readonly bytes: Uint8Array; readonly renew: () => void }, add: (count: number) => void) => void): KernelImage {
    const log = new LogBuilder(host)
    let next = 0
    const add = (count: number): void => {
      for (let i = 0; i < count; i++) log.add(message(next++))
    }
    add(12)
    return withChanges(log.image(), (bytes, { offset, length }) => onAnswer({ bytes, renew: () => bytes.set(log.ram.subarray(offset, offset + length)) }, add))
  }

  /** What is read in one batch, in this order, told by its length. */
  const parts = ['descriptors', 'infos', 'text'] as const
  const sizeOf = (name: string): number => host.types.sizeOf(host.types.find(name)?.id ?? 0)
  const partOf = ({ length }: Uint8Array): (typeof parts)[number] | undefined => parts[[12 * sizeOf('prb_desc'), 12 * sizeOf('printk_info'), 512].indexOf(length)]
  const numbers = (from: number, to: number): string[] => Array.from({ length: to - from + 1 }, (_, i) => message(from + i))

  it.each<[number, string, string[]]>([
    [6, 'descriptors', numbers(3, 11)], [6, 'infos', numbers(3, 11)], [6, 'text', numbers(3, 11)], [6, 'nothing', numbers(3, 11)],
    [30, 'descriptors', []], [30, 'infos', []], [30, 'text', []], [30, 'nothing', []],
  ])('loses what was given up meanwhile, and nothing else, where %d messages come before its %s are read', async (count, first, expected) => {
    const order: string[] = []
    const { entries, unfinished, lost, faults } = await readLog(moving(({ bytes, renew }, add) => {
      const part = partOf(bytes)
      if (part !== undefined) order.push(part)
      if (part === first || (first === 'nothing' && part === 'text')) add(count)
      if (order.includes(first)) renew()
    }))
    expect([entries.map(({ text }) => text), unfinished, lost, faults, order]).toEqual([expected, 0, 0, [], parts])
  })

  it('has no message that was never written, and those in order, whenever others come', { timeout: fuzzTimeoutMs }, async () => {
    await fc.assert(fc.asyncProperty(fc.nat(), async (seed) => {
      const random = new Random(seed)
      const { entries, faults } = await readLog(moving(({ renew }, add) => {
        if (random.chance(0.4)) add(random.integer(1, 20))
        if (random.chance(0.5)) renew()
      })).catch((error: unknown) => {
        if (!isBackdoorsError(error, 'KERNEL_DATA_CORRUPT')) throw error
        return { entries: [], faults: [] }
      })
      expect(entries.map(({ text }) => text)).toEqual(entries.map(({ sequence }) => message(Number(sequence))))
      expect(entries.every(({ sequence }, i) => i === 0 || sequence > (entries[i - 1]?.sequence ?? 0n))).toBe(true)
      expect(new Set(faults.map(({ code }) => code)).size).toBeLessThanOrEqual(1)
    }), fuzz(300))
  })
})
