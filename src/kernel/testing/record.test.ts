import { expect, it } from 'vitest'
import { BytesMemory } from '../../region/testing/bytes-memory.js'
import { readLoadSegments } from '../elf.js'
import { PhysicalMemory } from '../physical-memory.js'
import { coreOf, Recorder } from './record.js'

it('a recording has the pages that were read, as they were changed, and no others', async () => {
  const ram = new PhysicalMemory(new BytesMemory(Uint8Array.from({ length: 10 * 4096 }, (_, i) => i >> 12)), [{ physical: 0, length: 10 * 4096, offset: 0 }])
  const recorder = new Recorder(ram.memory)
  await recorder.readMany([{ offset: 4095, length: 2 }, { offset: 5 * 4096 + 17, length: 1 }])
  await recorder.read(6 * 4096, 4096)
  expect(recorder.runs()).toEqual([[0, 2], [5, 2]])

  const memory = new BytesMemory(await coreOf(ram, recorder.runs(), (bytes, physical) => bytes.set([0xff], physical === 0 ? 1 : 0)))
  const recorded = new PhysicalMemory(memory, (await readLoadSegments(memory)) ?? [])
  expect(await recorded.readMany([{ physical: 0, length: 3 }, { physical: 4095, length: 2 }, { physical: 5 * 4096, length: 2 }])).toEqual([[0, 0xff, 0], [0, 1], [0xff, 5]].map((bytes) => Uint8Array.from(bytes)))
  await expect(recorded.readMany([{ physical: 2 * 4096, length: 1 }])).rejects.toMatchObject({ code: 'OUT_OF_RANGE' })
})
