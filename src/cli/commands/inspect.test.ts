/** Views of a kernel from the command line, over the recorded host: in a file, and through a daemon's socket. */
import { readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterAll, describe, expect, it } from 'vitest'
import type { ReadableMemory } from '../../fabric/remote-memory.js'
import { RelayServer } from '../../fabric/relay/relay-server.js'
import { BackdoorsError } from '../../errors.js'
import { consoleLog, panickedHost, reported } from '../../kernel/testing/panicked-host.js'
import { memorySocketPathOf } from '../../fabric/relay/relay-path.js'
import { RecordedFiles } from '../testing/recorded-files.js'
import { jsonOf, runCli } from '../testing/run-cli.js'

const host = await panickedHost()
const files = new RecordedFiles()
afterAll(() => files.remove())
const inspect = (words: string, memory?: string): ReturnType<typeof runCli> => files.run(`inspect ${words}`, memory)
const words = (line: string): string => line.trim().replaceAll(/\s+/g, ' ')
const told = (name: string): string[] => (reported[name] as string).trimEnd().split('\n')
const member = (structure: string, path: string): bigint => BigInt(host.types.member(structure, path)?.offset ?? 0)
const pointer = (value: bigint): Uint8Array => new Uint8Array(BigUint64Array.of(value).buffer)

describe('inspect log', () => {
  it('prints what dmesg had printed, and the panic', async () => {
    const { exitCode, stdout } = await inspect('log')
    const lines = stdout.split('\n')
    expect(exitCode).toBe(0)
    expect(lines.slice(0, told('dmesg').length)).toEqual(told('dmesg'))
    expect(lines.at(-2)).toContain('---[ end Kernel panic - not syncing: sysrq triggered crash ]---')
  })

  it('as JSON has each message with its level and its writer', async () => {
    const { entries, lost, unfinished } = jsonOf(await inspect('log --json')) as { entries: unknown[]; lost: number; unfinished: number }
    expect(entries[0]).toMatchObject({ sequence: 0, timeNs: 0, level: 5, facility: 0, text: expect.stringContaining('Linux version') as string })
    expect([lost, unfinished]).toEqual([0, 0])
  })

  it('shows what would drive a terminal as text', async () => {
    const { notePhysical, memory } = host
    expect(notePhysical).toBeGreaterThan(0)
    const ring = await host.variable('prb')
    const text = Buffer.from(await memory.read(await wordAt(ring + member('printk_ringbuffer', 'text_data_ring.data')), 1 << 15))
    const at = text.indexOf('Linux version')
    const changed = await files.changed('escapes', [[(await wordAt(ring + member('printk_ringbuffer', 'text_data_ring.data'))) + BigInt(at), Buffer.from('\x1b[2J\x1b]0;x\x07')]])
    const { stdout } = await inspect('log', changed)
    expect(stdout).not.toContain('\x1b')
    expect(stdout.split('\n')[0]).toContain('\\x1b[2J\\x1b]0;x\\x07')
  })
})

async function wordAt(address: bigint): Promise<bigint> {
  const bytes = await host.memory.read(address, 8)
  return new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true)
}

describe('inspect ps', () => {
  it('prints the processes that ps had printed', async () => {
    const { exitCode, stdout } = await inspect('ps')
    const [head, ...rows] = stdout.trimEnd().split('\n')
    expect([exitCode, words(head ?? '')]).toEqual([0, 'UID PID PPID STAT PSR NI VSZ RSS START COMMAND'])
    expect(words(rows.find((row) => row.endsWith('lab/stack')) ?? '')).toMatch(/^0 175 162 Sl \d 0 10664 884 \d\.\d\d \/tmp\/lab\/stack$/)
    const processes = told('ps').slice(1).filter((line) => /^\s*(\d+)\s+\1\s/.test(line))
    // ps itself and its shell have gone, and the shell that brought the panic has come.
    expect(rows.length).toBe(processes.length - 1)
  })

  it('prints threads and kernel stacks where they are wanted', async () => {
    const lines = (await inspect('ps --threads --stacks')).stdout.trimEnd().split('\n')
    expect(words(lines[0] ?? '')).toContain('UID PID LWP PPID')
    const at = lines.findIndex((line) => /^ +0 +175 +181 /.test(line))
    expect(lines.slice(at + 3, at + 6)).toEqual(told('stacks').map((line) => `    ${line}`))
    expect(lines).toContain('    (no more: it runs: its registers are in its CPU)')
  })

  it('as JSON has addresses in hexadecimal, and stacks with the tasks', async () => {
    const { tasks, faults } = jsonOf(await inspect('ps --json --stacks')) as { tasks: Record<string, unknown>[]; faults: unknown[] }
    expect(tasks.find(({ pid }) => pid === 1)).toMatchObject({ address: expect.stringMatching(/^0xff[0-9a-f]{14}$/) as string, ppid: 0, stack: { frames: expect.anything() as unknown } })
    expect(faults).toEqual([])
  })

  /** The table of process numbers is the other way to the tasks. */
  const noNumbers = (): [bigint, Uint8Array] => [host.addressOf('init_pid_ns') + member('pid_namespace', 'idr.idr_rt.xa_head'), pointer(0n)]

  it('prints as far as a damaged list goes, warns, and ends with 0', async () => {
    const { tasks } = jsonOf(await inspect('ps --json')) as { tasks: { pid: number; address: string }[] }
    const address = BigInt(tasks.find(({ pid }) => pid === 30)?.address ?? 0)
    const changed = await files.changed('cut', [[address + member('task_struct', 'tasks.next'), pointer(0n)], noNumbers()])
    const { exitCode, stdout, stderr } = await inspect('ps', changed)
    expect([exitCode, words(stdout.trimEnd().split('\n').at(-1) ?? '').split(' ')[1]]).toEqual([0, '30'])
    expect(stderr).toMatch(/^backdoors: warning: .* \(NOT_MAPPED\)$/m)
    expect(jsonOf(await inspect('ps --json', changed))).toMatchObject({ faults: [{ code: 'NOT_MAPPED', message: expect.any(String) as string }] })
  })

  it('ends with 1 where nothing can be read of it', async () => {
    const changed = await files.changed('none', [[host.addressOf('init_task') + member('task_struct', 'tasks.next'), pointer(0n)], noNumbers()])
    expect(await inspect('ps', changed)).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('(NOT_MAPPED)') as string })
  })
})

describe('inspect', () => {
  it('cpus prints uptime, load and what each CPU ran', async () => {
    const [uptime, , idle, busy] = (await inspect('cpus')).stdout.split('\n').map(words)
    expect(uptime).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC up 13\.\d\d s, load average: 0\.23, 0\.05, 0\.02$/)
    expect([idle, busy]).toEqual([expect.stringMatching(/^0 no idles 0 .* 0 swapper\/0$/), expect.stringMatching(/^1 yes runs 1 .* 231 sh$/)])
    expect(jsonOf(await inspect('cpus --json'))).toMatchObject({ uptime: { load: [0.23, 0.05, 0.02] }, cpus: [{ cpu: 0, isOnline: false }, { cpu: 1, switches: expect.any(Number) as number, timesNs: { user: expect.any(Number) as number } }] })
  })

  it('sockets prints them as ss had, and their processes where wanted', async () => {
    const rows = (await inspect('sockets -p')).stdout.trimEnd().split('\n').map(words)
    expect(rows[0]).toBe('Netid State Recv-Q Send-Q Local Address:Port Peer Address:Port Process')
    expect(rows.length - 1).toBe(told('ss0').length)
    expect(rows).toContain('tcp LISTEN 0 511 0.0.0.0:7777 0.0.0.0:* users:(("node",pid=174,fd=18))')
    expect(jsonOf(await inspect('sockets -p --json'))).toMatchObject({ sockets: expect.arrayContaining([expect.objectContaining({ local: { address: '0.0.0.0', port: 7777 }, inode: 11228 })]) as unknown[] })
  })

  it('maps prints what /proc/PID/maps had', async () => {
    expect((await inspect('maps 175')).stdout.trimEnd()).toBe(told('maps').join('\n'))
    expect(jsonOf(await inspect('maps 175 --json'))).toMatchObject({ pid: 175, mappings: expect.arrayContaining([expect.objectContaining({ name: '[stack]', permissions: 'rw-p', start: expect.stringMatching(/^0x7ff/) as string })]) as unknown[] })
  })

  it('mem prints what free and /proc/meminfo say', async () => {
    const lines = (await inspect('mem')).stdout.split('\n').map(words)
    expect(lines[0]).toBe('total used free shared buff/cache available')
    expect(lines[1]).toMatch(/^Mem: 466148 \d+ \d+ \d+ \d+ \d+$/)
    expect(lines).toContain('MemTotal: 466148 kB')
    expect(jsonOf(await inspect('mem --json'))).toMatchObject({ bytes: { MemTotal: 466148 * 1024 } })
  })

  it('panic prints why, where, in which task, and the last words', async () => {
    const { stdout } = await inspect('panic')
    expect(stdout.split('\n').slice(0, 4)).toEqual(['panic on CPU 1: sysrq triggered crash', 'it ran sh (PID 231)', 'CPUs that were stopped: 0; others that are online: none', ''])
    const last = consoleLog.split(/\r?\n/).map((line) => line.trimEnd()).filter((line) => /^\[ +13\.66/.test(line))
    expect(stdout.split('\n').map((line) => line.trimEnd())).toEqual(expect.arrayContaining(last))
    expect(jsonOf(await inspect('panic --json'))).toMatchObject({ view: 'panic', release: '6.1.0-56-amd64', isPanicked: true, panicCpu: 1, task: { pid: 231, comm: 'sh' } })
  })

  it('panic of a kernel that lives says so', async () => {
    const alive = await files.changed('alive', [[host.addressOf('panic_cpu'), new Uint8Array(4).fill(0xff)], [host.addressOf('__cpu_online_mask'), Uint8Array.of(3)]])
    expect((await inspect('panic', alive)).stdout.split('\n')[0]).toBe('no panic: panic_cpu is not set; CPUs that are online: 0, 1')
  })

  it('says what it cost, apart from learning the kernel', async () => {
    const result = await inspect('cpus --json')
    expect(result.stderr).toMatch(/^cost: \d+ reads, [\d.]+ KiB, [\d.]+ m?s; to learn the kernel, with symbols from the cache: \d+ reads, [\d.]+ KiB, [\d.]+ m?s$/m)
    expect(jsonOf(result)).toMatchObject({ memory: files.core, cost: { reads: expect.any(Number) as number, bytes: expect.any(Number) as number, ms: expect.any(Number) as number, learning: { fromCache: true } } })
  })
})

describe('the cache of symbols', () => {
  it('has one file a kernel, and is left alone with --no-cache', async () => {
    await inspect('cpus')
    expect(readdirSync(files.cache)).toEqual([`${host.note.buildId}.tables`])
    const { stderr } = await runCli(['inspect', '--memory', files.core, '--no-cache', 'cpus'])
    expect(stderr).not.toContain('from the cache')
  })

  it('is in the folder that XDG_CACHE_HOME names', async () => {
    const before = process.env['XDG_CACHE_HOME']
    process.env['XDG_CACHE_HOME'] = join(files.folder, 'xdg')
    try {
      expect(await runCli(['inspect', '--memory', files.core, 'cpus'])).toMatchObject({ exitCode: 0, stderr: expect.not.stringContaining('warning') as string })
      expect(statSync(join(files.folder, 'xdg', 'backdoors', 'symbols', `${host.note.buildId}.tables`)).mode & 0o777).toBe(0o600)
    } finally {
      if (before === undefined) delete process.env['XDG_CACHE_HOME']
      else process.env['XDG_CACHE_HOME'] = before
    }
  })

  it('that cannot be written is a warning, and costs nothing else', async () => {
    writeFileSync(join(files.folder, 'file'), '')
    const { exitCode, stderr } = await runCli(['inspect', '--memory', files.core, '--cache', join(files.folder, 'file', 'kernels'), 'cpus'])
    expect([exitCode, stderr]).toEqual([0, expect.stringMatching(/warning: .*\(SYSTEM_CALL_FAILED\)/)])
  })
})

describe('a NODE', () => {
  it('is read through the daemon of this machine', async () => {
    const region = join(files.folder, 'region')
    const length = 1 << 29
    // The host's RAM in one piece, as its NIC machine lends it; what was not recorded is an error.
    const memory: ReadableMemory = {
      peer: 'b', length,
      read: async (offset, bytes) => (await memory.readMany([{ offset, length: bytes }]))[0] as Uint8Array,
      readMany: (ranges) => host.physical.readMany(ranges.map(({ offset, length: bytes }) => ({ physical: offset, length: bytes }))),
    }
    const server = new RelayServer({
      path: memorySocketPathOf(region), log: pino({ level: 'silent' }),
      find: (name) => {
        if (name !== 'b') throw new BackdoorsError('PEER_UNKNOWN', `no host ${name}`, { peer: name })
        return { memory, map: [{ physical: 0, length, offset: 0 }], notes: [host.notePhysical] }
      },
    })
    await server.listen()
    const ask = (line: string): ReturnType<typeof runCli> => runCli([...line.split(' '), '--region', region, '--cache', files.cache])
    try {
      expect(jsonOf(await ask('inspect b panic --json'))).toMatchObject({ node: 'b', view: 'panic', reason: 'sysrq triggered crash' })
      expect((await ask('inspect b maps 175')).stdout.trimEnd()).toBe(told('maps').join('\n'))
      expect(jsonOf(await ask(`core b 175 -o ${join(files.folder, 'core')} --json`))).toMatchObject({ node: 'b', pid: 175, missingBytes: 16384 })
      expect(await ask('inspect z log')).toMatchObject({ exitCode: 1, stdout: '', stderr: expect.stringContaining('(PEER_UNKNOWN)') as string })
    } finally {
      await server.close()
    }
  })

  it('without a daemon ends with 3', async () => {
    expect(await runCli(['inspect', 'b', 'log', '--region', join(files.folder, 'nobody')])).toMatchObject({ exitCode: 3, stderr: expect.stringContaining('(DAEMON_UNAVAILABLE)') as string })
  })
})

describe('a command line that is wrong ends with 2', () => {
  it.each([
    ['inspect', 'Whose memory?'],
    ['inspect b', 'Which view? One of log, ps'],
    ['inspect log', 'Whose log? Give a NODE'],
    ['inspect b dmesg', '"dmesg" is no view'],
    ['inspect b log 5', '"5" is too much'],
    ['inspect b maps', 'Give a PID'],
    ['inspect b maps 0', '"0" is no PID'],
    ['inspect b maps 1 2', '"2" is too much: maps PID'],
    ['inspect b log --stacks', '--stacks belongs to ps'],
    ['inspect b ps -p', '--processes belongs to sockets'],
    ['inspect b log', 'Which daemon?'],
    ['inspect b log --map 0:1:0', '--map belongs to --memory'],
    ['inspect --memory x b log', 'leave "b" out'],
    ['inspect --memory x log --map 0:1', 'no part of an address map'],
    ['inspect --memory x --region y log', 'cannot be used with'],
  ])('%s', async (line, why) => {
    expect(await runCli(line)).toMatchObject({ exitCode: 2, stdout: '', stderr: expect.stringContaining(why) as string })
  })

  it('or with 3 where the file is not there, and 1 where it holds no kernel', async () => {
    const empty = join(files.folder, 'empty')
    writeFileSync(empty, new Uint8Array(1 << 16))
    expect(await inspect('log', join(files.folder, 'nothing'))).toMatchObject({ exitCode: 3, stderr: expect.stringContaining('(REGION_NOT_FOUND)') as string })
    expect(await inspect('log', empty)).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('(KERNEL_NOT_FOUND)') as string })
  })
})

