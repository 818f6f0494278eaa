import { beforeEach, expect, it } from 'vitest'
import type { MemoryRange, ReadableMemory, WatchEvent, WatchPlan } from '../fabric/remote-memory.js'
import type { ControlConnection, NodeVerdict } from '../monitor/verdict.js'
import { KernelWatch } from './kernel-watch.js'
import type { KernelImage } from './kernel-image.js'
import { PhysicalMemory } from './physical-memory.js'
import { panickedHost } from './testing/panicked-host.js'

/** The recorded host's memory, of which some words can be made others. */
class PatchedMemory implements ReadableMemory {
  readonly #base: ReadableMemory
  readonly patches = new Map<number, Uint8Array>()

  constructor(base: ReadableMemory) {
    this.#base = base
  }

  get peer(): string {
    return this.#base.peer
  }

  get length(): number {
    return this.#base.length
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    return (await this.readMany([{ offset, length }]))[0] as Uint8Array
  }

  async readMany(ranges: readonly MemoryRange[]): Promise<Uint8Array[]> {
    const read = (await this.#base.readMany(ranges)).map((bytes) => bytes.slice())
    for (const [i, { offset, length }] of ranges.entries()) {
      for (const [at, patch] of this.patches) {
        for (let k = 0; k < patch.length; k++) if (at + k >= offset && at + k < offset + length) (read[i] as Uint8Array)[at + k - offset] = patch[k] as number
      }
    }
    return read
  }
}

let memory: PatchedMemory
let image: KernelImage
let nowUs: number
let control: ControlConnection
let tell: (event: WatchEvent) => void
let plan: WatchPlan | undefined
let closed: number
let verdicts: NodeVerdict[]
let troubles: unknown[]
let watch: KernelWatch

beforeEach(async () => {
  const recorded = await panickedHost()
  memory = new PatchedMemory(recorded.physical.memory)
  image = recorded.over(new PhysicalMemory(memory, recorded.physical.spans))
  ;[nowUs, control, plan, closed, verdicts, troubles] = [1_000_000, 'answers', undefined, 0, [], []]
  watch = new KernelWatch({
    by: 'b', image, intervalUs: 1000, unreachableAfterUs: 500_000, refreshMs: 100, deadlineUs: 50_000,
    memory: {
      watch: (wanted, listener) => {
        ;[plan, tell] = [wanted, listener]
        return { state: {} as never, update: () => undefined, close: () => void (closed += 1) }
      },
    },
    controlConnection: () => control,
    nowUs: () => nowUs,
    every: () => () => void (closed += 1),
    onVerdict: (verdict) => verdicts.push(verdict),
    onTrouble: (error) => troubles.push(error),
  })
})

async function offsetOf(symbol: string): Promise<number> {
  const [translation] = await image.memory.translate([image.addressOf(symbol)])
  const { physical } = translation as { physical: number }
  return image.physical.locate({ physical, length: 4 })?.[0]?.offset as number
}

const word = (value: number): Uint8Array => new Uint8Array(Int32Array.of(value).buffer)

/** As it was before it panicked: both CPUs online, and nobody in `panic`. */
async function revive(): Promise<void> {
  memory.patches.set(await offsetOf('panic_cpu'), word(-1))
  memory.patches.set(await offsetOf('__cpu_online_mask'), Uint8Array.of(0b11))
}

it('samples panic_cpu where it lies', async () => {
  await revive()
  await watch.start()
  expect(plan).toEqual({ cells: [{ counterOffset: await offsetOf('panic_cpu'), deadlineUs: 1000 }], intervalUs: 1000, unreachableAfterUs: 500_000 })
  expect([verdicts, troubles]).toEqual([[], []])
  expect(watch.verdict.kind).toBe('alive')
})

it('panic_cpu moves, and the other CPU is offline: os-panicked, with what was seen', async () => {
  await revive()
  await watch.start()
  memory.patches.clear()
  tell({ kind: 'moved', cell: 0, counter: 1, atUs: nowUs })
  await new Promise(setImmediate)
  await watch.look()
  expect(verdicts).toEqual([{ kind: 'os-panicked', seen: 'panic_cpu is 1, and of 2 CPUs only 1 is online' }])
})

it('panic_cpu moves while the other CPU runs on: no verdict until it has stopped', async () => {
  await revive()
  await watch.start()
  memory.patches.delete(await offsetOf('panic_cpu'))
  tell({ kind: 'moved', cell: 0, counter: 1, atUs: nowUs })
  await watch.look()
  expect(verdicts).toEqual([])
  memory.patches.clear()
  await watch.look()
  expect(verdicts.map(({ kind }) => kind)).toEqual(['os-panicked'])
})

it('nothing moves for the deadline though a CPU is busy: os-stalled', async () => {
  await revive()
  await watch.start()
  nowUs += 40_000
  await watch.look()
  expect(verdicts).toEqual([])
  nowUs += 20_000
  await watch.look()
  expect(verdicts).toMatchObject([{ kind: 'os-stalled', seen: expect.stringContaining('nothing has moved') as string }])
})

it('reads fail: what the lender\'s connection says decides between daemon-lost and unreachable', async () => {
  await revive()
  await watch.start()
  control = 'unheard'
  tell({ kind: 'unreachable', status: 'WC_RETRY_EXC_ERR', sinceUs: nowUs, atUs: nowUs })
  expect(verdicts).toEqual([])
  control = 'silent'
  await watch.look()
  expect(verdicts.map(({ kind }) => kind)).toEqual(['unreachable'])
})

it('is silent once it is closed', async () => {
  await revive()
  await watch.start()
  watch.close()
  memory.patches.clear()
  await watch.look()
  expect([verdicts, closed]).toEqual([[], 2])
})
