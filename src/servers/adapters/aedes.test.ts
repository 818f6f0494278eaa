import { Aedes } from 'aedes'
import mqtt, { type MqttClient } from 'mqtt'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { startTypescript } from '../../region/testing/child.js'
import type { AttachedNode } from '../attach.js'
import { BackdoorsPersistence } from './aedes.js'
import type { QueuedRecord } from './packet-queues.js'
import { loneNode, type LoneNode } from './testing/lone-node.js'

let lone: LoneNode
let closers: (() => unknown)[]

beforeEach(async () => {
  lone = await loneNode()
  closers = [() => lone.close()]
})
afterEach(async () => {
  for (const close of closers.reverse()) await close()
})

async function serve(node: AttachedNode): Promise<{ broker: Aedes; port: number }> {
  const broker = await Aedes.createBroker({ persistence: new BackdoorsPersistence(node) })
  const server = createServer((socket) => void broker.handle(socket)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  closers.push(() => new Promise<void>((resolve) => server.close(() => resolve())), () => new Promise<void>((resolve) => broker.close(resolve)))
  return { broker, port: (server.address() as AddressInfo).port }
}

interface Connected {
  readonly client: MqttClient
  readonly heard: string[]
  until(count: number): Promise<string[]>
}

async function connect(port: number, clientId: string, clean = false): Promise<Connected> {
  const client = mqtt.connect({ host: '127.0.0.1', port, clientId, clean, reconnectPeriod: 0, protocolVersion: 4 })
  const heard: string[] = []
  client.on('message', (topic, payload) => void heard.push(`${topic} ${payload.toString()}`))
  closers.push(() => client.end(true))
  await new Promise<void>((resolve) => client.once('connect', () => resolve()))
  const until = async (count: number): Promise<string[]> => {
    while (heard.length < count) await new Promise<void>((resolve) => client.once('message', () => resolve()))
    return heard
  }
  return { client, heard, until }
}

describe('the persistence of aedes', () => {
  it('passes the abstract tests of aedes-persistence', async () => {
    const { stdout, stderr, code } = await startTypescript('../../servers/adapters/testing/aedes-abstract.ts', [], ['--test-reporter=tap']).ended()
    const count = (what: string): number => Number(new RegExp(`^# ${what} (\\d+)$`, 'm').exec(stdout)?.[1])
    expect(stdout.match(/^\s*not ok .*$/gm) ?? [], stdout).toEqual([])
    expect({ code, fail: count('fail'), cancelled: count('cancelled'), skipped: count('skipped'), todo: count('todo') }, stderr).toEqual({ code: 0, fail: 0, cancelled: 0, skipped: 0, todo: 0 })
    // As many as the package has now: fewer would be a run that broke off.
    expect(count('pass')).toBeGreaterThanOrEqual(50)
    expect(count('pass')).toBe(count('tests'))
  }, 120_000)

  it('keeps subscriptions, messages that wait, and what is retained, over a restart of its server', async () => {
    const first = await serve(lone.node)
    const sensor = await connect(first.port, 'sensor', true)
    const panel = await connect(first.port, 'panel')
    await panel.client.subscribeAsync(['heat/#', 'alarm'], { qos: 1 })
    await panel.client.endAsync()
    for (const degrees of ['20', '21']) await sensor.client.publishAsync('heat/hall', degrees, { qos: 1 })
    await sensor.client.publishAsync('alarm', 'armed', { qos: 2 })
    await sensor.client.publishAsync('door', 'shut', { qos: 1, retain: true })
    await sensor.client.endAsync()
    const second = await serve(await lone.restart())
    const again = await connect(second.port, 'panel')
    expect(await again.until(3)).toEqual(['heat/hall 20', 'heat/hall 21', 'alarm armed'])
    await again.client.subscribeAsync('door', { qos: 1 })
    expect(await again.until(4)).toContain('door shut')
    second.broker.publish({ cmd: 'publish', topic: 'heat/cellar', payload: '12', qos: 1, retain: false, dup: false }, () => undefined)
    expect((await again.until(5)).at(-1)).toBe('heat/cellar 12')
    await again.client.endAsync()
  })

  it('forgets a client that wants to be forgotten', async () => {
    const { port } = await serve(lone.node)
    const panel = await connect(port, 'panel')
    await panel.client.subscribeAsync('heat/#', { qos: 1 })
    await panel.client.endAsync()
    expect([...lone.node.sessions('mqtt.subscriptions').ids()]).toEqual(['panel'])
    await (await connect(port, 'panel', true)).client.endAsync()
    expect([...lone.node.sessions('mqtt.subscriptions').ids()]).toEqual([])
  })

  it('takes up what comes over, in the order in which it was queued', async () => {
    const outgoing = lone.node.sessions<QueuedRecord>('mqtt.outgoing')
    const { port } = await serve(lone.node)
    const packet = (payload: string): QueuedRecord['packet'] => ({ cmd: 'publish', topic: 'heat', payload: Buffer.from(payload), qos: 1, retain: false, dup: false, brokerId: 'dead', brokerCounter: Number(payload) })
    const arrive = (...numbers: number[]): void => {
      const ids = numbers.map((number) => `panel/dead.${number}`)
      numbers.forEach((number, i) => outgoing.commit(ids[i] as string, { clientId: 'panel', origin: 'dead', number, packet: packet(`${number}`) }))
      outgoing.emit('adopted', { from: 'a', ids })
    }
    arrive(3, 1)
    arrive(2)
    const subscriptions = lone.node.sessions('mqtt.subscriptions')
    subscriptions.commit('panel', { clientId: 'panel', subscriptions: [{ topic: 'heat', qos: 1 }] })
    subscriptions.emit('adopted', { from: 'a', ids: ['panel'] })
    const panel = await connect(port, 'panel')
    expect(await panel.until(3)).toEqual(['heat 1', 'heat 2', 'heat 3'])
    await panel.client.endAsync()
    expect([...outgoing.ids()]).toEqual([])
  })

  it('gives names that are too long for an id, or begin as hashed ones do, records of their own', async () => {
    const persistence = new BackdoorsPersistence(lone.node)
    await persistence.setup({ id: 'broker' })
    const names = ['x'.repeat(5000), `${'x'.repeat(5000)}y`, '#1', 'plain', 'a\0b']
    for (const id of names) await persistence.addSubscriptions({ id }, [{ topic: 'heat', qos: 1 }])
    expect([...lone.node.sessions('mqtt.subscriptions').ids()]).toHaveLength(names.length)
    const again = new BackdoorsPersistence(lone.node)
    await again.setup({ id: 'broker' })
    expect((await again.subscriptionsByTopic('heat')).map(({ clientId }) => clientId).sort()).toEqual([...names].sort())
  })

  it('refuses with FENCED and changes nothing once another node serves its clients', async () => {
    const persistence = new BackdoorsPersistence(lone.node)
    await persistence.setup({ id: 'broker' })
    const client = { id: 'panel' }
    await persistence.addSubscriptions(client, [{ topic: 'heat', qos: 1 }])
    lone.fence()
    const fenced = expect.objectContaining({ code: 'FENCED' }) as Error
    await expect(persistence.outgoingEnqueue({ clientId: 'panel' }, { topic: 'heat', payload: '20', qos: 1 })).rejects.toEqual(fenced)
    await expect(persistence.removeSubscriptions(client, ['heat'])).rejects.toEqual(fenced)
    await expect(persistence.storeRetained({ topic: 'heat', payload: '20' })).rejects.toEqual(fenced)
    expect((await persistence.outgoingStream(client).toArray()).length).toBe(0)
    expect(await persistence.subscriptionsByClient(client)).toHaveLength(1)
  })
})
