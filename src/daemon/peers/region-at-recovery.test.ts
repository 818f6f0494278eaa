/** A host that was known while it was healthy, and what has become of it by the time that it is recovered. */
import { expect, it } from 'vitest'
import type { RemoteMemory } from '../../fabric/remote-memory.js'
import { readBootIdentity } from '../../kernel/boot-identity.js'
import { findHostRegion, type HostRegion } from '../../kernel/host-region.js'
import { HostBuilder, type BuiltProcess } from '../../kernel/testing/host-builder.js'
import { panickedHost } from '../../kernel/testing/panicked-host.js'
import { readHeader } from '../../region/region-reader.js'
import { regionAtRecovery } from './region-at-recovery.js'

const host = await panickedHost()
const start = 0x7f12_3456_7000n

interface Known {
  readonly machine: HostBuilder
  readonly daemon: BuiltProcess
  readonly frames: readonly number[]
  readonly region: HostRegion
  /** Recovers it as it is now. */
  readonly recover: () => Promise<RemoteMemory>
  readonly warnings: unknown[]
}

async function known(): Promise<Known> {
  const machine = new HostBuilder(host)
  const frames = machine.addRegion()
  const daemon = machine.addProcess([{ start, frames }])
  const image = machine.image()
  const { region } = await findHostRegion(image, { node: 'a', owner: 0 })
  const boot = await readBootIdentity(image)
  const warnings: unknown[] = []
  const log = { warn: (...words: unknown[]) => void warnings.push(words.at(-1)) }
  const recover = (): Promise<RemoteMemory> => regionAtRecovery({ peer: 'a', image, region: region as HostRegion, boot, recovery: image.physical.memory as RemoteMemory, log })
  return { machine, daemon, frames, region: region as HostRegion, recover, warnings }
}

it('a host that failed as it was: its region is read where it was', async () => {
  const { recover, warnings } = await known()
  expect([(await readHeader(await recover())).incarnation, warnings]).toEqual([7n, []])
})

it.each<[string, (known: Known) => void]>([
  ['it has been started anew', ({ machine }) => machine.set('task_struct', machine.initTask, 'stack_canary', 0x1234n)],
  ['pages of it have been moved', ({ machine, daemon }) => machine.mapPage(daemon, start + 4096n, machine.addFrames(1)[0])],
  ['another one is there', ({ machine, daemon, frames }) => {
    machine.set('mm_struct', daemon.mm, 'pgd', 0x1000n)
    machine.writeHeader(frames, 'a', 8n)
  }],
])('its memory is lost where %s, and nothing of it is handed on', async (why, happen) => {
  const host = await known()
  happen(host)
  await expect(host.recover()).rejects.toMatchObject({ code: 'MEMORY_LOST', message: `a cannot be recovered from where its region was found: ${why}`, details: { peer: 'a' } })
  expect(host.warnings).toEqual([])
})

it('a host in whose kernel nobody maps the region any more: it is read where it was, and that is told', async () => {
  const { machine, daemon, recover, warnings } = await known()
  machine.set('mm_struct', daemon.mm, 'pgd', 0x1000n)
  expect([(await readHeader(await recover())).incarnation, warnings]).toEqual([7n, ['nobody maps the region in the dead kernel any more; it is read where it was']])
})
