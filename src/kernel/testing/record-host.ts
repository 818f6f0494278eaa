/**
 * Makes the recorded host of a RAM file:
 *
 *     node dist/src/kernel/testing/record-host.js RAM_FILE FOLDER [FROM=TO …]
 *
 * It runs all views over the RAM (physical address 0 at offset 0), and writes the pages that they read to FOLDER/host.core.br: an
 * ELF core, compressed. Paths FROM are written over by TO, of the same length and of as many parts, in these pages and in the
 * texts that stand in FOLDER, so that both go on telling the same.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { brotliCompressSync, constants } from 'node:zlib'
import { writeProcessCore } from '../exports/process-core.js'
import { writeVmcore } from '../exports/vmcore.js'
import { findHostRegion } from '../host-region.js'
import { KernelImage } from '../kernel-image.js'
import { Selection } from '../kernel-object.js'
import { PhysicalMemory } from '../physical-memory.js'
import { openRamFile } from '../ram-file.js'
import { readCpus } from '../views/cpus.js'
import { findTask, ownMemory } from '../views/find-task.js'
import { readLog } from '../views/log.js'
import { readMaps, readVmas } from '../views/maps.js'
import { readMemoryUse } from '../views/memory-use.js'
import { readPanic } from '../views/panic.js'
import { PulseReader } from '../views/pulse.js'
import { readSockets } from '../views/sockets.js'
import { unwindTasks } from '../views/stack.js'
import { readTasks } from '../views/tasks.js'
import { readUptime } from '../views/uptime.js'
import { coreOf, Recorder } from './record.js'

interface Rename {
  readonly from: string
  readonly to: string
}

const texts = ['reported.json', 'console.log']
/** The process whose core is exported, by its name. */
const exported = 'stack'

async function record(ramPath: string, folder: string, renames: readonly Rename[]): Promise<void> {
  const ram = await openRamFile(ramPath)
  // Looking for the kernel reads everything: what is recorded is told where it is.
  const { notePhysical } = await KernelImage.learn({ physical: ram })
  const recorder = new Recorder(ram.memory)
  const image = await KernelImage.learn({ physical: new PhysicalMemory(recorder, ram.spans), hints: [notePhysical] })
  await readEverything(image)
  const names = await namesToChange(image, renames)
  const core = await coreOf(ram, recorder.runs(), (bytes, physical) => {
    for (const { from, to } of renames) overwrite(bytes, from, to)
    for (const { at, to } of names) if (at >= physical && at < physical + bytes.length) bytes.set(Buffer.from(to), at - physical)
  })
  const packed = brotliCompressSync(core, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 24, [constants.BROTLI_PARAM_SIZE_HINT]: core.length } })
  writeFileSync(join(folder, 'host.core.br'), packed)
  for (const name of texts) {
    const path = join(folder, name)
    writeFileSync(path, renames.reduce((text, { from, to }) => text.replaceAll(from, to), readFileSync(path, 'utf8')))
  }
  process.stdout.write(`${core.length} bytes in ${recorder.runs().length} rows of pages, ${packed.length} compressed\n`)
  await ram.close()
}

/** Whatever the tests may read of it. */
async function readEverything(image: KernelImage): Promise<void> {
  const { tasks } = await readTasks(image, { threads: true })
  for (const view of [readLog, readPanic, readCpus, readMemoryUse, readUptime]) await view(image)
  await unwindTasks(image, tasks)
  await readSockets(image, { owners: true })
  await (await PulseReader.prepare(image)).read(() => 0)
  await findHostRegion(image, { owner: 0, node: 'none' })
  for (const { pid } of tasks.filter(({ mm }) => mm !== undefined)) await readMaps(image, pid)
  const folder = mkdtempSync(join(tmpdir(), 'record-'))
  const pid = tasks.find(({ comm }) => comm === exported)?.pid ?? 1
  await writeProcessCore({ image, pid, path: join(folder, 'core') })
  // What a vmcore notes; all the RAM would be too much.
  const enough = new Error('enough')
  const controller = new AbortController()
  await writeVmcore({ image, path: join(folder, 'vmcore'), signal: controller.signal, onProgress: () => controller.abort(enough) }).catch((error: unknown) => {
    if (error !== enough) throw error
  })
  rmSync(folder, { recursive: true })
}

function overwrite(bytes: Uint8Array, from: string, to: string): void {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  for (let at = buffer.indexOf(from); at >= 0; at = buffer.indexOf(from, at + 1)) buffer.write(to, at, 'latin1')
}

/** The names of folders on the way to mapped files, which the kernel keeps one by one. In physical addresses. */
async function namesToChange(image: KernelImage, renames: readonly Rename[]): Promise<{ at: number; to: string }[]> {
  const entry = new Selection(image.types, 'dentry', ['d_name.name', 'd_parent'])
  const changes: { at: number; to: string }[] = []
  for (const { pid } of (await readTasks(image)).tasks.filter(({ mm }) => mm !== undefined)) {
    const task = await findTask(image, pid, new Selection(image.types, 'task_struct', ['pid', 'flags', 'mm']))
    const { vmas } = await readVmas(image, task ? ownMemory(task) : 0n)
    const { mappings } = await readMaps(image, pid)
    for (const [i, { file }] of vmas.entries()) {
      const rename = renames.find(({ from }) => mappings[i]?.name?.startsWith(`${from}/`))
      if (file === 0n || rename === undefined) continue
      const parts = new Map(rename.from.split('/').map((part, at) => [part, rename.to.split('/')[at] as string]))
      let at = (await image.readObject(new Selection(image.types, 'file', ['f_path.dentry']), file)).pointer('f_path.dentry')
      for (let depth = (mappings[i]?.name ?? '').split('/').length; depth > 1; depth--) {
        const found = await image.readObject(entry, at)
        const name = found.pointer('d_name.name')
        const text = Buffer.from(await image.memory.read(name, 32)).toString('latin1').split('\0')[0] as string
        const to = parts.get(text)
        const [translated] = await image.memory.translate([name])
        if (to !== undefined && to !== text && to.length === text.length && translated && 'physical' in translated) changes.push({ at: translated.physical, to })
        at = found.pointer('d_parent')
      }
    }
  }
  return changes
}

const [ramPath, folder, ...words] = process.argv.slice(2)
const renames = words.map((word): Rename => {
  const [from = '', to = ''] = word.split('=')
  if (from.length !== to.length || from.split('/').length !== to.split('/').length) throw new Error(`${word}: both have to be of one length, and of as many parts`)
  return { from, to }
})
if (ramPath === undefined || folder === undefined) throw new Error('record-host.js RAM_FILE FOLDER [FROM=TO …]')
await record(ramPath, folder, renames)
