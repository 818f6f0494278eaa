/** The daemon's own sampling, of this very machine and process, and of files made up. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { monotonicMs } from '../../native/clock.js'
import { BoxOwner, markExited } from '../../region/box-owner.js'
import { createRegion, type Region } from '../../region/region.js'
import { readSensors } from '../../region/region-reader.js'
import type { SensorReading } from '../../region/sensor-cell.js'
import { BytesMemory } from '../../region/testing/bytes-memory.js'
import { parseConfig } from '../config.js'
import { ListenQueues } from './listen-queues.js'
import { ProcFiles } from './proc-files.js'
import { ServerMeter } from './server-sensors.js'
import { SensorSampler } from './sensor-sampler.js'

const log = pino({ level: 'silent' })
const { sensors: config } = parseConfig({ node: 'a' })

let folder: string
let closers: (() => Promise<void> | void)[]

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'backdoors-sensors-'))
  closers = []
})

afterEach(async () => {
  for (const close of closers.reverse()) await close()
  rmSync(folder, { recursive: true, force: true })
})

function nodeOf(sensorsPerBox: number): { region: Region; daemon: BoxOwner } {
  const region = createRegion(join(folder, 'region'), 'a', 'test', { boxCount: 3, sensorsPerBox, sessionsPerBox: 8, heapBytes: 4096 })
  closers.push(() => region.memory.close())
  const daemon = BoxOwner.take(region, { name: 'daemon', daemon: true })
  daemon.sensor({ name: 'os', kind: 'progress', deadlineUs: 1000 })
  return { region, daemon }
}

function samplerOf({ region, daemon: box }: { region: Region; daemon: BoxOwner }, files?: ProcFiles): SensorSampler {
  const sampler = new SensorSampler({ region, box, config, log, cpus: 2, ...(files ? { files } : {}) })
  closers.push(() => sampler.close())
  return sampler
}

/** What a watcher reads in the daemon's box, by name. */
async function read(region: Region): Promise<Map<string, SensorReading>> {
  const [found] = await readSensors(new BytesMemory(region.bytes), region.header, [0])
  return new Map((found?.sensors ?? []).map((sensor) => [sensor.name, sensor]))
}

/** A /proc with just this in it. */
function procWith(files: Readonly<Record<string, string>>): ProcFiles {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(folder, 'proc', path, '..'), { recursive: true })
    writeFileSync(join(folder, 'proc', path), text)
  }
  return new ProcFiles(join(folder, 'proc'), join(folder, 'cgroup'))
}

describe('the machine', () => {
  it('is measured, with limits', async () => {
    const node = nodeOf(32)
    await samplerOf(node).sample()
    const seen = await read(node.region)
    for (const name of ['mem-used-bytes', 'open-files', 'load-1min-tasks', 'runnable-tasks']) {
      expect(seen.get(name)).toMatchObject({ value: expect.any(Number) as number, limit: expect.any(Number) as number })
      expect(seen.get(name)?.limit).toBeGreaterThan(0)
    }
    expect(seen.get('mem-used-bytes')?.value).toBeGreaterThan(1 << 20)
  })

  it('that tells less is measured as far as it does', async () => {
    const node = nodeOf(32)
    await samplerOf(node, procWith({ 'loadavg': '3.50 2.79 2.32 7/119 25249\n', 'pressure/memory': 'some avg10=31.26 avg60=0.00 avg300=0.00 total=1\n' })).sample()
    const seen = await read(node.region)
    expect([...seen.keys()]).toEqual(['os', 'runnable-tasks', 'load-1min-tasks', 'mem-stall-pct'])
    expect(seen.get('runnable-tasks')).toMatchObject({ kind: 'pressure', value: 7, limit: 16 })
    expect(seen.get('load-1min-tasks')).toMatchObject({ value: 3.5, limit: 8 })
    expect(seen.get('mem-stall-pct')).toMatchObject({ value: 31.26, limit: 20 })
  })
})

describe('a server', () => {
  it('is measured by the process id in its box, and no more when it is gone', async () => {
    const node = nodeOf(32)
    const listener = createServer().listen(0, '127.0.0.1')
    await once(listener, 'listening')
    closers.push(() => void listener.close())
    const web = BoxOwner.take(node.region, { name: 'web' })
    const sampler = samplerOf(node)
    await sampler.sample()
    const seen = await read(node.region)
    expect(seen.get('1/rss-bytes')?.value).toBeGreaterThan(10 << 20)
    expect(seen.get('1/rss-bytes')?.limit).toBeGreaterThan(seen.get('1/rss-bytes')?.value ?? Infinity)
    expect(seen.get('1/open-fds')?.value).toBeGreaterThan(3)
    expect(seen.get('1/accept-queue')).toMatchObject({ kind: 'pressure', value: 0, limit: 128 })
    markExited(node.region, web.box, web.generation)
    await sampler.sample()
    expect((await read(node.region)).get('1/rss-bytes')).toMatchObject({ value: 0, limit: 0 })
  })

  it('that cannot be read takes no place', async () => {
    const node = nodeOf(32)
    BoxOwner.take(node.region, { name: 'web' })
    await samplerOf(node, procWith({ loadavg: 'what?' })).sample()
    expect([...(await read(node.region)).keys()]).toEqual(['os'])
  })

  it('has at most the memory that its cgroup may have', async () => {
    const files = procWith({ 'meminfo': 'MemTotal:    4000 kB\n', '7/status': 'Name:\tweb\nVmRSS:\t    500 kB\n', '7/cgroup': '0::/web.service\n' })
    mkdirSync(join(folder, 'cgroup/web.service'), { recursive: true })
    const queues = new ListenQueues(files, monotonicMs)
    const measure = async (): Promise<unknown> => (await new ServerMeter(files, queues, 7, config.limits).measure()).find(({ name }) => name === 'rss-bytes')
    writeFileSync(join(folder, 'cgroup/web.service/memory.max'), 'max\n')
    expect(await measure()).toMatchObject({ value: 500 << 10, limit: 0.9 * (4000 << 10) })
    writeFileSync(join(folder, 'cgroup/web.service/memory.max'), '1024000\n')
    expect(await measure()).toMatchObject({ value: 500 << 10, limit: 0.9 * 1024000 })
  })

  it('that hangs has connections waiting that it does not accept, and the kernel says how many', async () => {
    const child = spawn(process.execPath, ['-e', 'require("net").createServer().listen(0, "127.0.0.1", function () { console.log(this.address().port) })'], { stdio: ['ignore', 'pipe', 'inherit'] })
    closers.push(() => end(child))
    const [line] = (await once(child.stdout, 'data')) as [Buffer]
    child.kill('SIGSTOP')
    const files = new ProcFiles()
    const meter = new ServerMeter(files, new ListenQueues(files, monotonicMs, 0), child.pid as number, config.limits)
    const queue = async (): Promise<number | undefined> => (await meter.measure()).find(({ name }) => name === 'accept-queue')?.value
    while (!isStopped(child)) await new Promise(setImmediate)
    expect(await queue()).toBe(0)
    const sockets = await Promise.all([1, 2, 3].map(() => connected(Number(line.toString()))))
    closers.push(() => sockets.forEach((socket) => socket.destroy()))
    while ((await queue()) !== 3) await new Promise(setImmediate)
    // Sockets that listen elsewhere in the same network are nobody's business.
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    closers.push(() => void other.close())
    expect(await queue()).toBe(3)
  })
})

describe('queues of listening sockets', () => {
  it('are read once for all servers, and not again for five hundred times as long as it took', async () => {
    let nowMs = 0
    const queues = new ListenQueues(new ProcFiles(), () => nowMs++)
    const first = await queues.around(process.pid)
    expect(await queues.around(process.pid)).toBe(first)
    nowMs += 500
    expect(await queues.around(process.pid)).not.toBe(first)
  })

  it('of a process that is not there are none', async () => {
    expect(await new ListenQueues(new ProcFiles(), monotonicMs).around(2 ** 30)).toEqual(new Map())
  })
})

describe('a box without room', () => {
  it('keeps what came first, and what is missing is known', async () => {
    const node = nodeOf(3)
    const sampler = samplerOf(node)
    await sampler.sample()
    await sampler.sample()
    expect([...(await read(node.region)).keys()]).toEqual(['os', 'mem-used-bytes', 'open-files'])
    expect(sampler.missing).toContain('runnable-tasks')
  })
})

describe('a sampler', () => {
  it('that is closed writes nothing any more, not even what is under way', async () => {
    const node = nodeOf(32)
    BoxOwner.take(node.region, { name: 'web' })
    const sampler = samplerOf(node)
    const underWay = sampler.sample()
    await sampler.close()
    await underWay
    await sampler.sample()
    expect([...(await read(node.region)).keys()].filter((name) => name.startsWith('1/'))).toEqual([])
  })

  it('that is switched off never begins', async () => {
    const node = nodeOf(32)
    const sampler = new SensorSampler({ region: node.region, box: node.daemon, config: { ...config, enabled: false }, log })
    sampler.start()
    await sampler.close()
    expect([...(await read(node.region)).keys()]).toEqual(['os'])
  })
})

async function connected(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  return socket
}

function isStopped({ pid }: ChildProcess): boolean {
  return /^State:\s+T/m.test(new ProcFiles().text(`${pid}/status`) ?? '')
}

async function end(child: ChildProcess): Promise<void> {
  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  await ended
}
