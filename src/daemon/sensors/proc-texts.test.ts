import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { acceptQueues, cgroupPath, fileTable, kibibytesLine, load, memoryUse, openFilesLimit, singleNumber, socketInode, stallPercent } from './proc-texts.js'

const meminfo = 'MemTotal:       24684092 kB\nMemFree:        20289492 kB\nMemAvailable:   21329188 kB\nHugePages_Total:       0\n'
const limits = 'Limit                     Soft Limit           Hard Limit           Units     \nMax processes             96365                96365                processes \nMax open files            20000                unlimited            files     \n'
const head = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     \n'
const line = (state: string, waiting: string, inode: string): string => `   0: 0100007F:1F90 00000000:0000 ${state} 00000000:${waiting} 00:00000000 00000000     0        0 ${inode} 1 00000000699a25d2 100 0 0 10 0                      \n`

describe('what the kernel says of the machine', () => {
  it('memory, in bytes', () => {
    expect(memoryUse(meminfo)).toEqual({ used: (24684092 - 21329188) * 1024, total: 24684092 * 1024 })
    expect(memoryUse('MemTotal:       24684092 kB\n')).toBeUndefined()
    expect(memoryUse(meminfo.replace('21329188 kB', 'many kB'))).toBeUndefined()
    expect(kibibytesLine(meminfo, 'HugePages_Total')).toBeUndefined()
    expect(kibibytesLine(`Name:\tnode\n${meminfo}`, 'Total')).toBeUndefined()
    expect(kibibytesLine('Name:\tnode\nVmRSS:\t   72 kB\n', 'VmRSS')).toBe(72 << 10)
  })

  it('open files', () => {
    expect(fileTable('1122\t0\t2466177\n')).toEqual({ open: 1122, most: 2466177 })
    expect(fileTable('1122\t22\t9223372036854775807\n')).toEqual({ open: 1100, most: 2 ** 63 })
    expect(fileTable('1122')).toBeUndefined()
  })

  it('load', () => {
    expect(load('2.91 2.79 2.32 2/119 25249\n')).toEqual({ minute: 2.91, runnable: 2 })
    expect(load('2.91 2.79 2.32\n')).toBeUndefined()
  })

  it('stalls', () => {
    expect(stallPercent('some avg10=31.26 avg60=28.07 avg300=25.71 total=16244700731\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n')).toBe(31.26)
    expect(stallPercent('full avg10=31.26 avg60=28.07 avg300=25.71 total=1\n')).toBeUndefined()
  })
})

describe('what the kernel says of a process', () => {
  it('its limits', () => {
    expect(openFilesLimit(limits)).toBe(20000)
    expect(openFilesLimit(limits.replace('20000', 'unlimited'))).toBeUndefined()
    expect(singleNumber('1073741824\n')).toBe(1073741824)
    expect(singleNumber('max\n')).toBeUndefined()
  })

  it('its cgroup, but none that leads elsewhere', () => {
    expect(cgroupPath('9:memory:/other\n0::/system.slice/web.service\n')).toBe('/system.slice/web.service')
    expect(cgroupPath('0::/../../etc\n')).toBeUndefined()
    expect(cgroupPath('4:memory:/only-v1\n')).toBeUndefined()
  })

  it('which of its descriptors are sockets', () => {
    expect(socketInode('socket:[1213]')).toBe(1213)
    for (const link of ['pipe:[1213]', '/tmp/socket:[1]', 'socket:[]', 'socket:[12']) expect(socketInode(link)).toBeUndefined()
  })

  it('the queues of listening sockets, which come first', () => {
    const text = head + line('0A', '00000003', '1213') + line('0A', '0000000A', '1214') + line('01', '00000005', '99') + line('0A', '00000001', '1215')
    expect(acceptQueues(text)).toEqual(new Map([[1213, 3], [1214, 10]]))
    expect(acceptQueues(text.slice(0, head.length + line('0A', '00000003', '1213').length + 40))).toEqual(new Map([[1213, 3]]))
    expect(acceptQueues('')).toEqual(new Map())
  })
})

it('whatever a text says, there are numbers or nothing', () => {
  const parsers = [memoryUse, fileTable, load, stallPercent, openFilesLimit, singleNumber, socketInode]
  const pieces = fc.array(fc.constantFrom('MemTotal', 'MemAvailable', ':', ' ', '\n', 'kB', 'some avg10=', '1.5', '9'.repeat(400), '-3', '2/', 'Max open files', 'NaN', '0A', '\0', 'é'), { maxLength: 30 })
  fc.assert(fc.property(pieces, (parts) => {
    const text = parts.join('')
    for (const parse of parsers) {
      const found = parse(text)
      for (const value of typeof found === 'object' ? Object.values(found) : [found ?? 0]) expect(value >= 0 && Number.isFinite(value)).toBe(true)
    }
    for (const waiting of acceptQueues(text).values()) expect(waiting).toBeGreaterThanOrEqual(0)
  }))
})
