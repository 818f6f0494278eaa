import { afterEach, describe, expect, it } from 'vitest'
import { gidAt } from '../../src/fabric/verbs/gid-choice.js'
import { listDevices, type VerbsDevice, VerbsDevice as Device } from '../../src/fabric/verbs/index.js'
import { expectThrow } from '../../src/fabric/testing/memory-fixture.js'
import { verbsAddon } from '../../src/native/load.js'
import type { DeviceEvent } from '../../src/native/verbs.js'
import { Loopback, needsDevice, openDevice } from '../players.js'

needsDevice()

const opened: VerbsDevice[] = []
afterEach(() => {
  for (const device of opened.splice(0)) device.close()
})
const open = (...options: Parameters<typeof openDevice>): VerbsDevice => {
  const device = openDevice(...options)
  opened.push(device)
  return device
}

describe('devices', () => {
  it('are listed with their ports, limits and GIDs', () => {
    const device = open()
    const listed = listDevices().find(({ name }) => name === device.name)
    expect(listed).toBeDefined()
    expect(listed?.guid).toMatch(/^[0-9a-f]{16}$/)
    expect(listed?.maxRdAtomic).toBeGreaterThan(0)
    expect(listed?.atomics).not.toBe('none')
    const port = listed?.ports.find(({ number }) => number === device.port.number)
    expect(port?.state).toBe('PORT_ACTIVE')
    expect([256, 512, 1024, 2048, 4096]).toContain(port?.activeMtu)
    for (const { gid } of port?.gids ?? []) expect(gid).toMatch(/^[0-9a-f]{32}$/)
  })

  it('are asked anew by an open context', () => {
    const device = open()
    expect(device.context.attributes()).toEqual(listDevices().find(({ name }) => name === device.name))
  })

  it('that are not there are told with those that are', () => {
    expectThrow(() => Device.open({ device: 'nonesuch0' }), 'DEVICE_NOT_FOUND', { path: 'nonesuch0' })
    expectThrow(() => new (verbsAddon().Context)('nonesuch0'), 'DEVICE_NOT_FOUND')
  })

  it('have no port 99', () => {
    expectThrow(() => openDevice({ port: 99 }), 'DEVICE_NOT_FOUND')
  })
})

describe('the GID', () => {
  it('is RoCE v2 on Ethernet, not link-local, and of IPv4 where there is one', () => {
    const { gid, port } = open()
    if (port.linkLayer === 'Ethernet') {
      expect(gid.entry.type).toBe('roce-v2')
      expect(gid.entry.netdev).not.toBe('')
      const ipv4 = port.gids.filter((entry) => entry.gid.startsWith('00000000000000000000ffff') && entry.type === 'roce-v2')
      if (ipv4.length > 0) expect(ipv4).toContainEqual(gid.entry)
    }
    expect(gid.reason).not.toBe('')
  })

  it('can be named by its index', () => {
    const first = open()
    for (const entry of first.port.gids) expect(open({ gidIndex: entry.index }).gid.entry).toEqual(entry)
  })

  it('of an index that is not in use is refused', () => {
    const { port } = open()
    expectThrow(() => gidAt('device', port, 255), 'NO_USABLE_GID')
    expectThrow(() => openDevice({ gidIndex: 255 }), 'NO_USABLE_GID')
  })
})

describe('asynchronous events', () => {
  it('of a queue pair reach the listener: a responder that refused something tells it', async () => {
    const events: DeviceEvent[] = []
    const loopback = new Loopback(openDevice({ onEvent: (event) => events.push(event) }))
    const wrong = loopback.connect({ tamper: (windows) => windows.map((window) => ({ ...window, rkey: window.rkey ^ 0xff00 })) })
    await expect(wrong.sampling.read(8_192, 8)).rejects.toMatchObject({ code: 'WC_REM_ACCESS_ERR' })
    // Devices differ in which events they raise; those that come are well formed and name what they are about.
    for (const event of events) {
      expect(event.event).toMatch(/^[A-Z_]+$/)
      if (/^QP_|^COMM_EST|^SQ_|^PATH_/.test(event.event)) expect(event.queuePair).toBeGreaterThan(0)
    }
    await loopback.close()
  })

  it('do not keep a listener from being closed, or the process alive', () => {
    const context = new (verbsAddon().Context)(open().name, () => undefined)
    context.close()
    context.close()
    expectThrow(() => context.attributes(), 'CLOSED')
  })
})
