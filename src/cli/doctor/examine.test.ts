import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import type { DeviceAttributes, GidEntry, PortAttributes } from '../../native/verbs.js'
import { leastNode } from './check-software.js'
import { examine } from './examine.js'
import type { Finding, Purpose, Severity } from './finding.js'
import type { Machine } from './machine.js'

const mebibyte = 2 ** 20
const purpose: Purpose = { fabric: 'verbs', regionBytes: 256 * mebibyte, regionPath: '/dev/shm/backdoors-a' }

const limits = (memlock: string, rtprio: string): string =>
  ['Limit                     Soft Limit           Hard Limit           Units', `Max locked memory         ${memlock}            unlimited            bytes`, `Max realtime priority     ${rtprio}                    0`].join('\n')
const capabilityBits = (...numbers: number[]): string => `Name:\tnode\nCapEff:\t${numbers.reduce((bits, number) => bits | (1n << BigInt(number)), 0n).toString(16).padStart(16, '0')}`

const goodGid: GidEntry = { index: 1, gid: '00000000000000000000ffff0a000001', type: 'roce-v2', netdev: 'eth0' }
const linkLocalGid: GidEntry = { index: 0, gid: 'fe80000000000000505400fffe000001', type: 'roce-v2', netdev: 'eth0' }
const activePort: PortAttributes = { number: 1, state: 'PORT_ACTIVE', linkLayer: 'Ethernet', lid: 0, maxMtu: 4096, activeMtu: 1024, gids: [linkLocalGid, goodGid] }

const deviceWith = (...ports: readonly Partial<PortAttributes>[]): DeviceAttributes => ({
  name: 'rxe0', guid: '505400fffe000001', firmware: '', vendorId: 0, maxQueuePairs: 1024, maxWorkRequests: 1024, maxCompletions: 1024, maxRegionLength: 1n << 40n,
  maxDestRdAtomic: 128, maxRdAtomic: 128, atomics: 'hca', ports: ports.map((port) => ({ ...activePort, ...port })),
})

interface Made {
  readonly files: Readonly<Record<string, string>>
  readonly folders: Readonly<Record<string, readonly string[]>>
  readonly nodeVersion: string
  readonly freeBytes: number | undefined
  readonly memoryTrouble: string | undefined
  readonly verbsTrouble: string | undefined
  readonly devices: readonly DeviceAttributes[]
  readonly regionBytes: number | undefined
}

/** Nothing is wrong with this one. */
const goodFiles = {
  '/proc/self/limits': limits('unlimited', '50'),
  '/proc/self/status': capabilityBits(12),
  '/proc/sys/kernel/panic': '0',
  '/proc/sys/kernel/sched_rt_runtime_us': '950000',
  '/proc/sys/kernel/osrelease': '6.1.0-17-amd64',
  '/proc/cmdline': 'quiet',
  '/sys/kernel/kexec_crash_loaded': '0',
  '/sys/kernel/kexec_crash_size': '0',
  '/lib/modules/6.1.0-17-amd64/modules.dep': 'kernel/drivers/infiniband/sw/rxe/rdma_rxe.ko: kernel/net/udp_tunnel.ko',
}
const good: Made = {
  files: goodFiles, folders: {}, nodeVersion: 'v22.3.0', freeBytes: 1024 * mebibyte, memoryTrouble: undefined, verbsTrouble: undefined, devices: [deviceWith({})], regionBytes: undefined,
}

function machineOf(made: Made): Machine {
  return {
    nodeVersion: made.nodeVersion,
    readText: (path) => made.files[path],
    exists: (path) => path in made.files || path in made.folders,
    fileBytes: (path) => (path === purpose.regionPath ? made.regionBytes : undefined),
    list: (path) => made.folders[path] ?? [],
    space: () => (made.freeBytes === undefined ? undefined : { sizeBytes: 2048 * mebibyte, freeBytes: made.freeBytes }),
    addonTrouble: (target) => (target === 'memory' ? made.memoryTrouble : made.verbsTrouble),
    verbsDevices: () => (made.verbsTrouble === undefined ? made.devices : undefined),
  }
}

const withFiles = (files: Record<string, string>): Partial<Made> => ({ files: { ...goodFiles, ...files } })

function find(check: string, made: Partial<Made>, asked: Purpose = purpose): Finding {
  const found = examine(machineOf({ ...good, ...made }), asked).filter((finding) => finding.check === check)
  expect(found).toHaveLength(1)
  return found[0]!
}

describe('a machine with nothing wrong', () => {
  it('is ok in every check, and each says why it matters', () => {
    const findings = examine(machineOf(good), purpose)
    expect(findings.filter(({ severity }) => severity !== 'ok')).toEqual([])
    for (const { seen, why } of findings) expect([seen, why]).not.toContain('')
    expect(new Set(findings.map(({ check }) => check)).size).toBe(findings.length)
  })
})

describe('a machine with something wrong', () => {
  it.each<[string, string, Partial<Made>, Severity, RegExp]>([
    ['node', 'is too old', { nodeVersion: 'v20.16.1' }, 'bad', /v20\.16\.1/],
    ['node', 'is much too old', { nodeVersion: 'v18.20.0' }, 'bad', /v18/],
    ['addon-memory', 'is not built', { memoryTrouble: 'could not be loaded from build/Release/memory.node' }, 'bad', /could not be loaded/],
    ['addon-verbs', 'is not built', { verbsTrouble: 'it was not built' }, 'bad', /it was not built/],
    ['region-space', 'is too small', { freeBytes: 64 * mebibyte }, 'bad', /64 MiB of 2 GiB are free, the region takes 256 MiB/],
    ['region-space', 'is missing', { freeBytes: undefined }, 'bad', /there is no \/dev\/shm/],
    ['memlock', 'is lower than the region', withFiles({ '/proc/self/limits': limits('8388608', '50') }), 'bad', /ulimit -l is 8 MiB/],
    ['memlock', 'cannot be read', withFiles({ '/proc/self/limits': '' }), 'warn', /cannot be read/],
    ['rdma-device', 'is missing', { devices: [] }, 'bad', /no device/],
    ['rdma-device', 'has no active port', { devices: [deviceWith({ state: 'PORT_DOWN' })] }, 'bad', /rxe0: no port is active/],
    ['gid', 'is link-local only', { devices: [deviceWith({ gids: [linkLocalGid] })] }, 'warn', /GID 0/],
    ['gid', 'is RoCE v1 only', { devices: [deviceWith({ gids: [{ ...goodGid, type: 'roce-v1' }] })] }, 'warn', /GID 1/],
    ['gid', 'is missing', { devices: [deviceWith({ gids: [] })] }, 'bad', /no GID/],
    ['mtu', 'is small', { devices: [deviceWith({ activeMtu: 512 })] }, 'warn', /512 of 4096/],
    ['kernel-panic', 'reboots after a time', withFiles({ '/proc/sys/kernel/panic': '10' }), 'bad', /after 10 s/],
    ['kernel-panic', 'reboots at once', withFiles({ '/proc/sys/kernel/panic': '-1' }), 'bad', /at once/],
    ['kernel-panic', 'cannot be read', withFiles({ '/proc/sys/kernel/panic': '' }), 'warn', /cannot be read/],
    ['kdump', 'has its kernel loaded', withFiles({ '/sys/kernel/kexec_crash_loaded': '1' }), 'bad', /is loaded/],
    ['kdump', 'has memory reserved by the command line', withFiles({ '/proc/cmdline': 'quiet crashkernel=256M' }), 'warn', /reserved/],
    ['kdump', 'has memory reserved', withFiles({ '/sys/kernel/kexec_crash_size': '268435456' }), 'warn', /reserved/],
    ['watchdog', 'is running', { folders: { '/sys/class/watchdog': ['watchdog0'] }, ...withFiles({ '/sys/class/watchdog/watchdog0/state': 'active' }) }, 'bad', /\/dev\/watchdog0 is running/],
    ['watchdog', 'is there, idle', withFiles({ '/dev/watchdog': '' }), 'warn', /\/dev\/watchdog is there/],
    ['panic-settings', 'panic on a soft lockup', withFiles({ '/proc/sys/kernel/softlockup_panic': '1', '/proc/sys/kernel/panic_on_oops': '1' }), 'warn', /softlockup_panic is 1, kernel\.panic_on_oops is 1/],
    ['nmi-watchdog', 'panics', withFiles({ '/proc/sys/kernel/nmi_watchdog': '1', '/proc/sys/kernel/hardlockup_panic': '1' }), 'warn', /both set/],
    ['real-time', 'is not permitted', withFiles({ '/proc/self/limits': limits('unlimited', '0') }), 'warn', /neither/],
    ['real-time-share', 'is nothing', withFiles({ '/proc/sys/kernel/sched_rt_runtime_us': '0' }), 'warn', /is 0/],
    ['net-admin', 'is not permitted', withFiles({ '/proc/self/status': capabilityBits() }), 'warn', /not held/],
  ])('%s %s', (check, _, made, severity, seen) => {
    const finding = find(check, made)
    expect(finding).toMatchObject({ severity, seen: expect.stringMatching(seen) as string })
    expect(finding.mend).toMatch(/\w/)
  })

  it('soft-roce is missing: a warning where there is no device either', () => {
    const none = withFiles({ '/lib/modules/6.1.0-17-amd64/modules.dep': 'kernel/net/udp_tunnel.ko:' })
    expect(find('soft-roce', { ...none, devices: [] })).toMatchObject({ severity: 'warn' })
    expect(find('soft-roce', none)).toMatchObject({ severity: 'ok' })
  })
})

describe('what only matters where memory outlives its operating system', () => {
  it.each<[string, Partial<Made>]>([
    ['kernel-panic', withFiles({ '/proc/sys/kernel/panic': '10' })],
    ['kdump', withFiles({ '/sys/kernel/kexec_crash_loaded': '1' })],
    ['memlock', withFiles({ '/proc/self/limits': limits('8388608', '50') })],
    ['rdma-device', { devices: [] }],
    ['addon-verbs', { verbsTrouble: 'it was not built' }],
    ['watchdog', { folders: { '/sys/class/watchdog': ['watchdog0'] }, ...withFiles({ '/sys/class/watchdog/watchdog0/state': 'active' }) }],
  ])('%s is bad on verbs and a warning on shm', (check, made) => {
    expect(find(check, made).severity).toBe('bad')
    expect(find(check, made, { ...purpose, fabric: 'shm' }).severity).toBe('warn')
  })
})

describe('what makes up for a limit', () => {
  it('CAP_IPC_LOCK: memlock does not apply', () => {
    expect(find('memlock', withFiles({ '/proc/self/limits': limits('65536', '50'), '/proc/self/status': capabilityBits(14) }))).toMatchObject({ severity: 'ok' })
  })

  it('CAP_SYS_NICE: RLIMIT_RTPRIO does not apply', () => {
    expect(find('real-time', withFiles({ '/proc/self/limits': limits('unlimited', '0'), '/proc/self/status': capabilityBits(23) }))).toMatchObject({ severity: 'ok' })
  })

  it('a region that is there already: it takes its own room again', () => {
    expect(find('region-space', { freeBytes: 64 * mebibyte, regionBytes: 256 * mebibyte })).toMatchObject({ severity: 'ok' })
  })

  it('an announce hook: CAP_NET_ADMIN is missed only where the daemon itself takes addresses, and CAP_NET_RAW with it', () => {
    const takes = { ...purpose, takesAddresses: true }
    expect(find('net-admin', withFiles({ '/proc/self/status': capabilityBits(12) }), takes)).toMatchObject({ severity: 'bad', seen: expect.stringMatching(/^CAP_NET_RAW not held/) as string })
    expect(find('net-admin', withFiles({ '/proc/self/status': capabilityBits(12, 13) }), takes)).toMatchObject({ severity: 'ok' })
    expect(find('net-admin', withFiles({ '/proc/self/status': capabilityBits(12) }))).toMatchObject({ severity: 'ok' })
  })

  it('one usable GID among several ports', () => {
    expect(find('gid', { devices: [deviceWith({ gids: [] }, { number: 2 })] })).toMatchObject({ severity: 'ok' })
  })
})

describe('the least version of Node', () => {
  it('is that of package.json', () => {
    const { engines } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as { engines: { node: string } }
    expect(engines.node).toBe(`>=${leastNode.major}.${leastNode.minor}`)
  })
})
