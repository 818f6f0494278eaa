/** docs/layout.md says what the code does: its tables are read here, and its example is made anew. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { encodeClaim, encodeFence, recoverySteps } from './control.js'
import * as layout from './layout.js'
import { encodeOrigin } from './session-record.js'
import { hexOf, workedExample } from './testing/worked-example.js'

const page = readFileSync(new URL('../../docs/layout.md', import.meta.url), 'utf8')

/** The cells of the table under a heading, row by row. */
function table(heading: string): string[][] {
  const section = new RegExp(`^#+ ${heading}$([\\s\\S]*?)(?=^#+ |$(?![\\s\\S]))`, 'm').exec(page)?.[1] ?? ''
  const rows = section.split('\n').filter((line) => line.startsWith('|')).map((line) => line.split('|').slice(1, -1).map((cell) => cell.trim()))
  expect(rows.length, `the table under "${heading}"`).toBeGreaterThan(2)
  return rows.slice(2)
}

interface Field {
  readonly name: string
  readonly offset: number
  readonly size: number
  readonly type: string
  readonly meaning: string
}

const fields = (heading: string): Field[] =>
  table(heading).map(([offset = '', size = '', type = '', name = '', meaning = '']) => ({ name, offset: Number(offset), size: Number(size), type, meaning }))

/** The parts of a word, as the table of its bits divides it. */
const bitsOf = (heading: string, word: bigint): Record<string, number> =>
  Object.fromEntries(table(heading).map(([bit = '', bits = '', name = '']) => [name, Number((word >> BigInt(bit)) & ((1n << BigInt(bits)) - 1n))]))

const sizeOfType: Partial<Record<string, number>> = { u16: 2, u32: 4, u64: 8, f64: 8 }

/** Members of a layout constant that are no offsets. */
const noOffsets = new Set(['bytes', 'offset', 'headerBytes', 'pairBytes', 'maxNameBytes'])
const offsetsOf = (constants: Readonly<Record<string, number>>, also: readonly string[] = []): Record<string, number> =>
  Object.fromEntries(Object.entries(constants).filter(([name]) => !noOffsets.has(name) || also.includes(name)))

const structures = [
  { heading: 'Header page', constants: layout.header, bytes: layout.header.bytes, also: ['headerBytes'] },
  { heading: 'Control page', constants: layout.control, bytes: layout.control.pairBytes, also: [] },
  { heading: 'Directory entry', constants: layout.directoryEntry, bytes: layout.directoryEntry.bytes, also: [] },
  { heading: 'Directory version', constants: layout.directoryVersion, bytes: layout.directoryVersion.bytes, also: [] },
  { heading: 'Sensor cell', constants: layout.sensorCell, bytes: layout.sensorCell.bytes, also: [] },
  { heading: 'Index entry', constants: layout.indexEntry, bytes: layout.indexEntry.bytes, also: [] },
  { heading: 'Record', constants: layout.record, bytes: layout.record.headerBytes, also: [] },
]

describe('docs/layout.md', () => {
  for (const { heading, constants, bytes, also } of structures) {
    it(`has every field of the ${heading.toLowerCase()}, where the code has it`, () => {
      const documented = fields(heading)
      expect(Object.fromEntries(documented.map(({ name, offset }) => [name, offset]))).toEqual(offsetsOf(constants, also))
      let end = 0
      for (const { name, offset, size, type } of documented) {
        expect(offset, `${name} begins behind the field before it`).toBeGreaterThanOrEqual(end)
        expect(size, `${name} is a ${type}`).toBe(sizeOfType[type] ?? size)
        if (sizeOfType[type] !== undefined) expect(offset % Math.min(size, 4), `${name} is aligned`).toBe(0)
        end = offset + size
      }
      expect(end).toBeLessThanOrEqual(bytes)
    })
  }

  it('has the sizes that the code has', () => {
    const numbers = Object.fromEntries(table('Numbers').map(([name = '', value]) => [name, Number(value)]))
    const { layoutVersion, pageBytes, maxNameBytes, maxSessionIdBytes, maxBoxes, maxRegionBytes, slotUnitBytes } = layout
    expect(numbers).toEqual({ layoutVersion, pageBytes, maxNameBytes, maxSessionIdBytes, maxBoxes, maxRegionBytes, slotUnitBytes })
    const { header, control, directoryEntry, directoryVersion, sensorCell, indexEntry, record } = layout
    expect([header.offset, header.bytes, control.offset, control.bytes, control.pairBytes]).toEqual([0, 4096, 4096, 4096, 16])
    expect([directoryEntry.bytes, directoryVersion.bytes, sensorCell.bytes, indexEntry.bytes, record.headerBytes]).toEqual([256, 96, 64, 32, 48])
    expect(layout.magic).toBe('BACKDOOR')
    expect(layout.sensorCell.maxNameBytes).toBe(fields('Sensor cell').find(({ name }) => name === 'name')?.size)
  })

  it('has the numbers of states, kinds, flags and steps', () => {
    const meaning = (heading: string, field: string): string => fields(heading).find(({ name }) => name === field)?.meaning ?? ''
    expect(meaning('Directory version', 'state')).toBe(layout.boxStates.map((state, number) => `${number} ${state}`).join(', '))
    expect(meaning('Sensor cell', 'kind')).toBe(layout.sensorKinds.map((kind, number) => `${number} ${kind}`).join(', '))
    const { used, currentIsB, deleted } = layout.indexFlags
    expect(meaning('Index entry', 'flags')).toBe(`${used} used, ${currentIsB} the current version is in slot B, ${deleted} deleted`)
    const steps = recoverySteps.map((step, number) => `${number} ${step}`).slice(2).join(', ')
    expect(table('Claim word')[0]?.[3]).toBe(`${steps}; anything else is no claim`)
  })

  it('has the bits of a fence where the code has them', () => {
    const fence = { generation: 0x1234_5678, extracted: 0x9abc_def0 }
    expect(bitsOf('Fence word', encodeFence(fence.generation, fence.extracted))).toEqual(fence)
  })

  it('has the bits of a claim where the code has them', () => {
    const claim = { step: 'announced', term: 0xabcd, recoverer: 0x1234, generation: 0x56789a } as const
    expect(bitsOf('Claim word', encodeClaim(claim))).toEqual({ ...claim, step: recoverySteps.indexOf('announced') })
  })

  it('has the fields of an origin where the code has them', () => {
    const bytes = encodeOrigin({ node: 'node-b', incarnation: 0x1122_3344_5566_7788n, box: 0x99, sequence: 0xaabb })
    const at = Object.fromEntries(fields('Origin').map(({ name, offset }) => [name, offset])) as Record<'incarnation' | 'sequence' | 'box' | 'node', number>
    const view = new DataView(bytes.buffer)
    expect([view.getBigUint64(at.incarnation, true), view.getBigUint64(at.sequence, true), view.getUint32(at.box, true)]).toEqual([0x1122_3344_5566_7788n, 0xaabbn, 0x99])
    expect(new TextDecoder().decode(bytes.subarray(at.node))).toBe('node-b')
  })

  it('shows an example with the bytes that are written', () => {
    const { bytes, seed, blocks } = workedExample()
    const shown = Object.fromEntries([...page.matchAll(/```hex ([a-z0-9-]+)\n([\s\S]*?)\n```/g)].map(([, name = '', hex]) => [name, hex]))
    expect(shown).toEqual(Object.fromEntries([...blocks].map(([name, { offset, length }]) => [name, hexOf(bytes, offset, length)])))
    expect(page).toContain(`which is \`0x${seed.toString(16)}\``)
  })
})
