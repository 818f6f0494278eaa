/** A check that lets invented or wrong rows pass would make `panic-inspect` say nothing. */
import { describe, expect, it } from 'vitest'
import { cpusDiffer, mapsDiffer, memoryDiffers, socketsDiffer, tasksDiffer, type HostReport, type Json } from './inspect-checks.js'

const report: HostReport = {
  ps: ['  PID  PPID COMMAND', '    1     0 init', '    2     0 kthreadd', '    7     2 kworker/0:0-events', '   53     2 kworker/1:2', '  188   163 node', '  203   163 sh', '  204   203 ps'].join('\n'),
  ss: ['udp UNCONN 3392 0 [::1]:48827 *:*', 'tcp LISTEN 1 0 127.0.0.1:5000 0.0.0.0:*', 'tcp ESTAB 1000 0 [::1]:80 [::1]:4000'].join('\n'),
  maps: ['00400000-00401000 r-xp 00000000 00:17 42                         /bin/known', '7fff40175000-7fff40196000 rw-p 00000000 00:00 0                          [stack]'].join('\n'),
  meminfo: ['MemTotal:         466148 kB', 'SwapTotal:             0 kB', 'SwapFree:              0 kB', 'MemFree:          100000 kB', 'VmallocTotal:   1374389 kB'].join('\n'),
  stat: ['cpu  20 0 40 200 0 0 0 0 0 0', 'cpu0 10 0 20 100 0 0 0 0 0 0', 'cpu1 10 0 20 100 0 0 0 0 0 0', 'intr 1'].join('\n'),
  uptime: '10.00 15.00\n',
  dmesg: '', console: '',
}

const task = (tgid: number, ppid: number, name: string, commandLine = name): Json => ({ tgid, ppid, name, commandLine })
const tasks = [task(1, 0, 'init'), task(2, 0, 'kthreadd'), task(7, 2, 'kworker/0:0-mm_percpu_wq'), task(60, 2, 'kworker/u4:3'), task(188, 163, 'node'), task(215, 163, 'sh', '/bin/sh -c echo c > /proc/sysrq-trigger')]

describe('tasks', () => {
  it('may differ by the report\'s own commands, the shell of the panic and kernel workers', () => {
    expect(tasksDiffer(report, { tasks })).toEqual([])
  })

  it('differ where one is missing, was not there, or has another name or parent', () => {
    const read = [...tasks.filter(({ tgid }) => tgid !== 188), task(300, 163, 'sh', '/bin/sh'), { ...task(1, 9, 'init') }, { ...task(7, 2, 'kworker/9:9') }]
    expect(tasksDiffer(report, { tasks: read })).toEqual([
      'ps: 1 is init of 9 instead of init of 0', 'ps: 7 is kworker/9:9 of 2 instead of kworker/0:0-events of 2', 'ps: 188 node is missing', 'ps: 300 sh was not there',
    ])
  })
})

const socket = (protocol: string, state: string, queues: readonly [number, number], local: readonly [string, number], remote: readonly [string, number]): Json => ({
  protocol, state, receiveQueue: queues[0], sendQueue: queues[1], local: { address: local[0], port: local[1] }, remote: { address: remote[0], port: remote[1] },
})
const sockets = [
  socket('udp', 'UNCONN', [3392, 0], ['::1', 48827], ['::', 0]), socket('tcp', 'LISTEN', [1, 5], ['127.0.0.1', 5000], ['0.0.0.0', 0]),
  socket('tcp', 'ESTAB', [1000, 0], ['::1', 80], ['::1', 4000]),
]

describe('sockets', () => {
  it('agree by protocol, state, queues and both ends, but for how many may wait at one that listens', () => {
    expect(socketsDiffer(report, { sockets })).toEqual([])
  })

  it('differ where a queue does, where one was not there, and where one stands twice', () => {
    const read = [{ ...sockets[0], receiveQueue: 0 }, sockets[1], sockets[1], sockets[2]]
    expect(socketsDiffer(report, { sockets: read })).toEqual([
      'ss: missing: udp UNCONN 3392 0 [::1]:48827 *:*', 'ss: was not there: udp UNCONN 0 0 [::1]:48827 *:*', 'ss: was not there: tcp LISTEN 1 - 127.0.0.1:5000 0.0.0.0:*',
    ])
  })
})

describe('maps', () => {
  it('agree but for blanks', () => {
    expect(mapsDiffer(report, report.maps.replace(/ {2,}/g, '  '))).toEqual([])
  })

  it('differ where one is missing, and where one was not there', () => {
    const [first] = report.maps.split('\n') as [string]
    expect(mapsDiffer(report, `${first}\n${first.replace('r-xp', 'rwxp')}`)).toEqual([
      'maps: missing: 7fff40175000-7fff40196000 rw-p 00000000 00:00 0 [stack]', 'maps: was not there: 00400000-00401000 rwxp 00000000 00:17 42 /bin/known',
    ])
  })
})

describe('memory', () => {
  const names = ['MemAvailable', 'Buffers', 'Cached', 'SwapCached', 'Active(anon)', 'Inactive(anon)', 'Active(file)', 'Inactive(file)', 'Unevictable', 'Mlocked', 'Dirty', 'Writeback',
    'AnonPages', 'Mapped', 'Shmem', 'KReclaimable', 'Slab', 'SReclaimable', 'SUnreclaim', 'KernelStack', 'PageTables']
  const meminfo = [report.meminfo, ...names.map((name) => `${name}: 2000 kB`)].join('\n')
  const bytes = { MemTotal: 466148 * 1024, SwapTotal: 0, SwapFree: 0, MemFree: 100_000 * 1024, ...Object.fromEntries(names.map((name) => [name, 2_048_000])) }

  it('may differ by what CPUs keep to themselves and a twentieth', () => {
    expect(memoryDiffers({ ...report, meminfo }, { bytes: { ...bytes, MemFree: 100_000 * 1024 + 1_024_000 + 5_120_000 } })).toEqual([])
  })

  it('differs where a number does, where one that is constant does at all, where one is missing, and where one is not known', () => {
    const { Slab: _, ...others } = bytes as typeof bytes & { Slab: number }
    expect(memoryDiffers({ ...report, meminfo }, { bytes: { ...others, MemTotal: 466148 * 1024 + 4096, PageTables: 0, Odd: 1 } })).toEqual([
      'mem: MemTotal is 477339648 instead of 477335552, give or take 0', 'mem: Slab is NaN instead of 2048000, give or take 1126400',
      'mem: PageTables is 0 instead of 2048000, give or take 1126400', 'mem: Odd is not checked',
    ])
  })
})

describe('CPUs', () => {
  const times = { user: 1e8, nice: 0, system: 2e8, idle: 1e9, iowait: 0, irq: 0, softirq: 0, steal: 0 }
  const cpus: Json[] = [{ cpu: 0, isOnline: false, current: { comm: 'node' }, timesNs: times }, { cpu: 1, isOnline: true, current: { comm: 'sh' }, timesNs: { ...times, system: 3e8 } }]
  const uptime = { uptimeSeconds: 11 }

  it('have counted on since the report', () => {
    expect(cpusDiffer(report, { cpus, uptime })).toEqual([])
  })

  it('differ by number, by times that went back or too fast, and by who panicked', () => {
    expect(cpusDiffer(report, { cpus: cpus.slice(1), uptime })).toEqual(['cpus: 1 instead of 0, 1'])
    expect(cpusDiffer(report, { cpus, uptime: { uptimeSeconds: 9 } })).toEqual(['cpus: -1 s have passed since /proc/uptime was read'])
    const wrong = [{ ...cpus[0], timesNs: { ...times, user: 0, system: 9e9 } }, { ...cpus[1], current: { comm: 'node' } }]
    expect(cpusDiffer(report, { cpus: wrong, uptime })).toEqual([
      'cpus: user of CPU 0 has grown by -0.1 s in 1 s', 'cpus: system of CPU 0 has grown by 8.8 s in 1 s',
      'cpus: online is what runs node, instead of the shell that panics the kernel alone',
    ])
  })
})
