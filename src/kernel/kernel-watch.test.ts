import { beforeEach, expect, it } from 'vitest'
import type { WatchEvent, WatchPlan } from '../fabric/remote-memory.js'
import type { ControlConnection, NodeVerdict } from '../monitor/verdict.js'
import { KernelWatch } from './kernel-watch.js'
import type { KernelImage } from './kernel-image.js'
import { offsetOf, withChanges, withPatches } from './testing/hostile-memory.js'
import { panickedHost } from './testing/panicked-host.js'

/** What stands in the memory instead of what was recorded, by where. */
let patches: Map<number, Uint8Array>
/** Called after each read, for each part of it. */
let answered: () => void
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
  patches = new Map()
  answered = () => undefined
  image = withChanges(withPatches(await panickedHost(), patches), () => answered())
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

const placeOf = (symbol: string): Promise<number> => offsetOf(image, image.addressOf(symbol))
const word = (value: number): Uint8Array => new Uint8Array(Int32Array.of(value).buffer)

/** As it was before it panicked: both CPUs online, and nobody in `panic`. */
async function revive(): Promise<void> {
  patches.set(await placeOf('panic_cpu'), word(-1))
  patches.set(await placeOf('__cpu_online_mask'), Uint8Array.of(0b11))
}

it('samples panic_cpu where it lies', async () => {
  await revive()
  await watch.start()
  expect(plan).toEqual({ cells: [{ counterOffset: await placeOf('panic_cpu'), deadlineUs: 1000 }], intervalUs: 1000, unreachableAfterUs: 500_000 })
  expect([verdicts, troubles]).toEqual([[], []])
  expect(watch.verdict.kind).toBe('alive')
})

it('panic_cpu moves, and the other CPU is offline: os-panicked, with what was seen', async () => {
  await revive()
  await watch.start()
  patches.clear()
  tell({ kind: 'moved', cell: 0, counter: 1, atUs: nowUs })
  await new Promise(setImmediate)
  await watch.look()
  expect(verdicts).toEqual([{ kind: 'os-panicked', seen: 'panic_cpu is 1, and of 2 CPUs only 1 is online' }])
})

it('panic_cpu moves while the other CPU runs on: no verdict until it has stopped', async () => {
  await revive()
  await watch.start()
  patches.delete(await placeOf('panic_cpu'))
  tell({ kind: 'moved', cell: 0, counter: 1, atUs: nowUs })
  await watch.look()
  expect(verdicts).toEqual([])
  patches.clear()
  await watch.look()
  expect(verdicts.map(({ kind }) => kind)).toEqual(['os-panicked'])
})

it('it panics between the look for that and the reading of its pulse: os-panicked by that look', async () => {
  await revive()
  await watch.start()
  answered = () => patches.clear()
  await watch.look()
  expect(verdicts).toEqual([{ kind: 'os-panicked', seen: 'panic_cpu is 1, and of 2 CPUs only 1 is online' }])
})

it('panic_cpu is set, and no CPU was seen to stop: os-panicked once it has stayed so for the deadline, and nothing else before', async () => {
  await revive()
  await watch.start()
  patches.clear()
  patches.set(await placeOf('__cpu_active_mask'), Uint8Array.of(0b10))
  for (const wait of [10_000, 25_000, 24_000]) {
    nowUs += wait
    await watch.look()
    expect([verdicts, watch.verdict.kind]).toEqual([[], 'alive'])
  }
  nowUs += 1000
  await watch.look()
  expect(verdicts).toEqual([{ kind: 'os-panicked', seen: 'panic_cpu is 1, and of 2 CPUs only 1 is online' }])
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
  patches.clear()
  await watch.look()
  expect([verdicts, closed]).toEqual([[], 2])
})

it('a look returns what it saw', async () => {
  await revive()
  await watch.start()
  expect(await watch.look()).toEqual({ moves: expect.any(String) as string })
  nowUs += 60_000
  expect(await watch.look()).toEqual({ stalled: expect.stringContaining('nothing has moved') as string })
  patches.clear()
  expect(await watch.look()).toEqual({ panicked: 'panic_cpu is 1, and of 2 CPUs only 1 is online' })
})

it('a look returns nothing where it could not read, though the last one saw the kernel move', async () => {
  await revive()
  await watch.start()
  answered = () => {
    throw new Error('the link is down')
  }
  expect([await watch.look(), troubles.length, watch.verdict.kind]).toEqual([undefined, 1, 'alive'])
  answered = () => undefined
  expect(await watch.look()).toEqual({ moves: expect.any(String) as string })
})

it('a look returns nothing while reads are known to fail, though that is no verdict yet, nor when it is closed', async () => {
  await revive()
  await watch.start()
  control = 'unheard'
  tell({ kind: 'unreachable', status: 'WC_RETRY_EXC_ERR', sinceUs: nowUs, atUs: nowUs })
  expect([await watch.look(), watch.verdict.kind]).toEqual([undefined, 'alive'])
  tell({ kind: 'reachable', atUs: nowUs })
  expect(await watch.look()).toEqual({ moves: expect.any(String) as string })
  watch.close()
  expect(await watch.look()).toBeUndefined()
})
