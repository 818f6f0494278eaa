import { once } from 'node:events'
import { describe, expect, it } from 'vitest'
import { startTypescript } from '../../region/testing/child.js'
import { BackdoorsPersistence } from './aedes.js'
import type { PacketLike } from './mqtt-records.js'
import type { QueuedRecord } from './packet-queues.js'
import { connectMqtt, serveMqtt } from './testing/broker.js'
import type { LoneNode } from './testing/lone-node.js'
import { loneNodeEach } from './testing/lone-node-each.js'

const { lone, closers } = loneNodeEach()

const message = (fields: PacketLike): PacketLike => ({ cmd: 'publish', topic: 'heat', payload: Buffer.from('20'), qos: 2, retain: false, dup: false, brokerId: 'broker', ...fields })

async function persistenceOf({ node }: LoneNode): Promise<BackdoorsPersistence> {
  const persistence = new BackdoorsPersistence(node)
  await persistence.setup({ id: 'broker' })
  return persistence
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
    const first = await serveMqtt(lone.node, closers)
    const sensor = await connectMqtt(closers, first.port, 'sensor', true)
    const panel = await connectMqtt(closers, first.port, 'panel')
    await panel.client.subscribeAsync(['heat/#', 'alarm'], { qos: 1 })
    await panel.client.endAsync()
    for (const degrees of ['20', '21']) await sensor.client.publishAsync('heat/hall', degrees, { qos: 1 })
    await sensor.client.publishAsync('alarm', 'armed', { qos: 2 })
    await sensor.client.publishAsync('door', 'shut', { qos: 1, retain: true })
    await sensor.client.endAsync()
    const second = await serveMqtt(await lone.restart(), closers)
    const again = await connectMqtt(closers, second.port, 'panel')
    expect(await again.until(3)).toEqual(['heat/hall 20', 'heat/hall 21', 'alarm armed'])
    await again.client.subscribeAsync('door', { qos: 1 })
    expect(await again.until(4)).toContain('door shut')
    second.broker.publish({ cmd: 'publish', topic: 'heat/cellar', payload: '12', qos: 1, retain: false, dup: false }, () => undefined)
    expect((await again.until(5)).at(-1)).toBe('heat/cellar 12')
    await again.client.endAsync()
  })

  it('forgets a client that wants to be forgotten', async () => {
    const { port } = await serveMqtt(lone.node, closers)
    const panel = await connectMqtt(closers, port, 'panel')
    await panel.client.subscribeAsync('heat/#', { qos: 1 })
    await panel.client.endAsync()
    expect([...lone.node.sessions('mqtt.subscriptions').ids()]).toEqual(['panel'])
    await (await connectMqtt(closers, port, 'panel', true)).client.endAsync()
    expect([...lone.node.sessions('mqtt.subscriptions').ids()]).toEqual([])
  })

  it('takes up what comes over, in the order in which it was queued', async () => {
    const outgoing = lone.node.sessions<QueuedRecord>('mqtt.outgoing')
    const { port } = await serveMqtt(lone.node, closers)
    const packet = (payload: string): QueuedRecord['packet'] => ({ cmd: 'publish', topic: 'heat', payload: Buffer.from(payload), qos: 1, retain: false, dup: false, brokerId: 'dead', brokerCounter: Number(payload) })
    const arrive = (...numbers: number[]): void => {
      const ids = numbers.map((number) => `panel/dead.${number}`)
      numbers.forEach((number, i) => outgoing.commit(ids[i] as string, { clientId: 'panel', origin: 'dead', epoch: 1, number, packet: packet(`${number}`) }))
      outgoing.emit('adopted', { from: 'a', ids })
    }
    arrive(3, 1)
    arrive(2)
    const subscriptions = lone.node.sessions('mqtt.subscriptions')
    subscriptions.commit('panel', { clientId: 'panel', subscriptions: [{ topic: 'heat', qos: 1 }] })
    subscriptions.emit('adopted', { from: 'a', ids: ['panel'] })
    const panel = await connectMqtt(closers, port, 'panel')
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

  it('keeps subscriptions that come at once, and none that is given up at once', async () => {
    const persistence = await persistenceOf(lone)
    const client = { id: 'panel' }
    await Promise.all(['heat', 'light', 'door'].map((topic) => persistence.addSubscriptions(client, [{ topic, qos: 1 }])))
    await Promise.all([persistence.removeSubscriptions(client, ['heat']), persistence.addSubscriptions(client, [{ topic: 'alarm', qos: 1 }]), persistence.removeSubscriptions(client, ['door'])])
    const again = await persistenceOf(lone)
    for (const each of [persistence, again]) expect((await each.subscriptionsByClient(client)).map(({ topic }) => topic)).toEqual(['light', 'alarm'])
    for (const [topic, count] of [['heat', 0], ['light', 1], ['door', 0], ['alarm', 1]] as const) expect(await again.subscriptionsByTopic(topic)).toHaveLength(count)
  })

  it('keeps exchanges of QoS 2 apart, which go on at once', async () => {
    const persistence = await persistenceOf(lone)
    const client = { id: 'panel' }
    for (const brokerCounter of [1, 2, 3]) {
      await persistence.outgoingEnqueue({ clientId: 'panel' }, message({ brokerCounter }))
      await persistence.outgoingUpdate(client, { ...message({ brokerCounter }), messageId: 40 + brokerCounter })
    }
    for (const messageId of [41, 42, 41]) await persistence.outgoingUpdate(client, { cmd: 'pubrel', messageId })
    const queued = async (): Promise<unknown[]> => ((await (await persistenceOf(lone)).outgoingStream(client).toArray()) as PacketLike[]).map(({ cmd, messageId }) => [cmd, messageId])
    expect(await queued()).toEqual([['pubrel', 41], ['pubrel', 42], ['publish', 43]])
    await persistence.outgoingClearMessageId(client, { messageId: 41 })
    expect(await queued()).toEqual([['pubrel', 42], ['publish', 43]])
    await expect(persistence.outgoingUpdate(client, { cmd: 'pubrel', messageId: 41 })).rejects.toThrow('no such packet')
  })

  it('takes no message for another that has its identifier, or that is nobody\'s', async () => {
    const persistence = await persistenceOf(lone)
    const client = { id: 'panel' }
    await persistence.outgoingEnqueue({ clientId: 'panel' }, message({ brokerId: 'dead', brokerCounter: 1 }))
    await persistence.outgoingUpdate(client, { ...message({ brokerId: 'dead', brokerCounter: 1 }), messageId: 7 })
    await persistence.outgoingEnqueue({ clientId: 'panel' }, message({ brokerCounter: 1 }))
    await persistence.outgoingUpdate(client, { ...message({ brokerCounter: 1 }), messageId: 7 })
    expect(((await persistence.outgoingStream(client).toArray()) as PacketLike[]).map(({ brokerId, messageId }) => [brokerId, messageId])).toEqual([['dead', 7], ['broker', 7]])
    await expect(persistence.outgoingUpdate(client, { cmd: 'publish', messageId: 7 })).rejects.toThrow('no such packet')
  })

  it('keeps the order of messages over several lives of its server', async () => {
    const queue = async (...counters: number[]): Promise<unknown[]> => {
      const persistence = await persistenceOf(lone)
      for (const brokerCounter of counters) await persistence.outgoingEnqueue({ clientId: 'panel' }, message({ brokerCounter }))
      return ((await persistence.outgoingStream({ id: 'panel' }).toArray()) as PacketLike[]).map(({ brokerCounter }) => brokerCounter)
    }
    const take = async (brokerCounter: number): Promise<void> => {
      const persistence = await persistenceOf(lone)
      await persistence.outgoingUpdate({ id: 'panel' }, { ...message({ brokerCounter }), messageId: 1 })
      await persistence.outgoingClearMessageId({ id: 'panel' }, { messageId: 1 })
    }
    expect(await queue(1, 2, 3)).toEqual([1, 2, 3])
    await take(1)
    await lone.restart()
    // It takes the place in the index that became free.
    expect(await queue(4)).toEqual([2, 3, 4])
    await take(2)
    await lone.restart()
    expect(await queue(5)).toEqual([3, 4, 5])
    await lone.restart()
    expect(await queue()).toEqual([3, 4, 5])
  })

  it('puts what comes after what has come over behind it', async () => {
    const persistence = await persistenceOf(lone)
    const outgoing = lone.node.sessions<QueuedRecord>('mqtt.outgoing')
    await persistence.outgoingEnqueue({ clientId: 'panel' }, message({ brokerCounter: 1 }))
    outgoing.commit('panel/dead.1', { clientId: 'panel', origin: 'dead', epoch: 9, number: 1, packet: message({ brokerCounter: 2 }) })
    outgoing.emit('adopted', { from: 'b', ids: ['panel/dead.1'] })
    await persistence.outgoingEnqueue({ clientId: 'panel' }, message({ brokerCounter: 3 }))
    for (const each of [persistence, await persistenceOf(lone)]) {
      expect(((await each.outgoingStream({ id: 'panel' }).toArray()) as PacketLike[]).map(({ brokerCounter }) => brokerCounter)).toEqual([1, 2, 3])
    }
  })

  it('puts a message into all queues or none, and takes its repetition for a new one', async () => {
    const { broker, port } = await serveMqtt(lone.node, closers)
    const panels = [await connectMqtt(closers, port, 'one'), await connectMqtt(closers, port, 'two')]
    for (const { client } of panels) await client.subscribeAsync('heat', { qos: 2 })
    for (const { client } of panels) await client.endAsync()
    // Room for the incoming record and one message more, but not for two.
    const filler = lone.node.sessions<number>('filler')
    const fill = (): void => {
      for (let i = 0; ; i++) filler.commit(`${i}`, i)
    }
    expect(fill).toThrow(expect.objectContaining({ code: 'BOX_FULL' }) as Error)
    for (const i of [0, 1]) filler.delete(`${i}`)
    const sensor = await connectMqtt(closers, port, 'sensor')
    const refused = once(broker, 'clientError')
    const closed = new Promise<void>((resolve) => sensor.client.once('close', () => resolve()))
    const publishing = sensor.client.publishAsync('heat', '20', { qos: 2 })
    expect((await refused)[1]).toMatchObject({ code: 'BOX_FULL' })
    expect(['incoming', 'outgoing'].map((store) => lone.node.sessions(`mqtt.${store}`).size)).toEqual([0, 0])
    filler.delete('2')
    // It sends again what was not acknowledged.
    await closed
    const { incomingStore, outgoingStore } = sensor.client
    sensor.client.reconnect({ incomingStore, outgoingStore })
    await publishing
    for (const id of ['one', 'two']) {
      const panel = await connectMqtt(closers, port, id)
      expect(await panel.until(1)).toEqual(['heat 20'])
      await panel.client.endAsync()
    }
    await sensor.client.endAsync()
    expect(['incoming', 'outgoing'].map((store) => lone.node.sessions(`mqtt.${store}`).size)).toEqual([0, 0])
  })

  it('takes the repetition of a message whose retained copy could not be kept for a new one', async () => {
    const persistence = await persistenceOf(lone)
    const client = { id: 'sensor' }
    const packet = { ...message({ retain: true, payload: Buffer.alloc(1000) }), messageId: 3 }
    await persistence.incomingStorePacket(client, packet)
    await expect(persistence.storeRetained({ ...packet, topic: 'x'.repeat(8 << 20) })).rejects.toMatchObject({ code: 'SESSION_TOO_LARGE' })
    await expect(persistence.incomingGetPacket(client, packet)).rejects.toThrow('no such packet')
  })
})
