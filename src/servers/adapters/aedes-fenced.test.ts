import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { describe, expect, it } from 'vitest'
import { BackdoorsPersistence } from './aedes.js'
import type { ClientLike } from './mqtt-records.js'
import { serveMqtt } from './testing/broker.js'
import { loneNodeEach } from './testing/lone-node-each.js'

const { lone, closers } = loneNodeEach()

const text = (of: string): Buffer => Buffer.concat([Buffer.from([0, of.length]), Buffer.from(of)])
const framed = (first: number, ...parts: readonly (Buffer | readonly number[])[]): Buffer => {
  const body = Buffer.concat(parts.map((part) => Buffer.from(part)))
  return Buffer.concat([Buffer.from([first, body.length]), body])
}

const clean = 0x02
const will = 0x04
const willQos1 = 0x08
const connectAs = (id: string, flags: number): Buffer => framed(0x10, text('MQTT'), [4, flags, 0, 0], text(id), ...((flags & will) === 0 ? [] : [text('gone'), text(id)]))
const publish = (qos: number, messageId: number): Buffer => framed(0x30 | (qos << 1), text('heat'), [0, messageId], Buffer.from('20'))
const pubrec = (messageId: number): Buffer => framed(0x50, [0, messageId])
const pubrel = (messageId: number): Buffer => framed(0x62, [0, messageId])
const subscribe = framed(0x82, [0, 9], text('heat'), [1])
const unsubscribe = framed(0xa2, [0, 9], text('heat'))

/** A connection to a broker, and what comes by it. */
class Wire {
  readonly socket: Socket
  readonly #heard: Buffer[] = []
  readonly #closed: Promise<void>

  constructor(port: number) {
    this.socket = connect(port, '127.0.0.1')
    this.socket.on('data', (data) => void this.#heard.push(data))
    this.socket.on('error', () => undefined)
    this.#closed = new Promise((resolve) => this.socket.once('close', () => resolve()))
    closers.push(() => this.socket.destroy())
  }

  /** @returns the answer, of so many bytes */
  async ask(question: Buffer, length: number): Promise<Buffer> {
    this.socket.write(question)
    const heard = (): Buffer => Buffer.concat(this.#heard)
    while (heard().length < length) await once(this.socket, 'data')
    const answer = heard()
    this.#heard.length = 0
    return answer
  }

  /** @returns what comes until the connection is closed */
  async askAndWait(question: Buffer): Promise<string> {
    this.socket.write(question)
    await this.#closed
    return Buffer.concat(this.#heard).toString('hex')
  }
}

async function connected(port: number, flags = 0): Promise<Wire> {
  const wire = new Wire(port)
  expect((await wire.ask(connectAs('panel', flags), 4)).subarray(0, 2)).toEqual(Buffer.from([0x20, 2]))
  return wire
}

const fenced = expect.objectContaining({ code: 'FENCED' }) as Error

describe('a broker that is fenced answers nothing, and closes the connection of a client', () => {
  it.each([
    ['that subscribes', subscribe],
    ['that unsubscribes', unsubscribe],
    ['that sends a message of QoS 2', publish(2, 8)],
    ['that repeats a message of QoS 2', publish(2, 7)],
    ['that releases a message of QoS 2', pubrel(7)],
    ['that releases a message that is unknown', pubrel(8)],
    ['that has received a message of QoS 2', pubrec(7)],
  ])('%s', async (_who, packet) => {
    const { port } = await serveMqtt(lone.node, closers)
    const wire = await connected(port)
    expect(await wire.ask(publish(2, 7), 4)).toEqual(pubrec(7))
    lone.fence()
    expect(await wire.askAndWait(packet)).toBe('')
  })

  it.each([['keeps its session', 0], ['starts anew', clean], ['has a will', will], ['starts anew and has a will', clean | will | willQos1]])('that connects and %s', async (_what, flags) => {
    const { port } = await serveMqtt(lone.node, closers)
    lone.fence()
    expect(await new Wire(port).askAndWait(connectAs('panel', flags))).toBe('')
  })

  it('and those of all other clients, whose wills it does not publish', async () => {
    const { broker, port } = await serveMqtt(lone.node, closers)
    const heard: string[] = []
    broker.subscribe('gone', (packet, done) => {
      heard.push(packet.topic)
      done()
    }, () => undefined)
    const other = await connected(port, will | willQos1)
    const wills = [...lone.node.sessions('mqtt.wills').ids()]
    const sensor = new Wire(port)
    await sensor.ask(connectAs('sensor', clean), 4)
    lone.fence()
    expect(await sensor.askAndWait(subscribe)).toBe('')
    expect(await other.askAndWait(Buffer.of())).toBe('')
    await new Promise<void>((resolve) => broker.close(resolve))
    expect(heard).toEqual([])
    expect([...lone.node.sessions('mqtt.wills').ids()]).toEqual(wills)
    expect(wills).toEqual(['panel'])
  })

  it('as soon as its server knows, though nobody asks for anything', async () => {
    const { port } = await serveMqtt(lone.node, closers)
    const wire = await connected(port, will)
    lone.node.sensor('beat', { deadlineMs: 60_000, everyMs: 5 })
    lone.fence()
    expect(await wire.askAndWait(Buffer.of())).toBe('')
  })

  it('after it has acknowledged a message of QoS 1, which aedes does before it gives it to anybody', async () => {
    const { port } = await serveMqtt(lone.node, closers)
    const wire = await connected(port)
    await wire.ask(subscribe, 5)
    lone.fence()
    expect(await wire.askAndWait(publish(1, 5))).toBe('40020005')
  })
})

describe('a persistence that is fenced', () => {
  it('changes nothing, reads nothing, and rejects with FENCED', async () => {
    const persistence = new BackdoorsPersistence(lone.node)
    await persistence.setup({ id: 'broker' })
    const client: ClientLike = { id: 'panel' }
    const packet = { cmd: 'publish', topic: 'heat', payload: '20', qos: 2, messageId: 3, brokerId: 'broker', brokerCounter: 1 }
    await persistence.addSubscriptions(client, [{ topic: 'heat', qos: 1 }])
    await persistence.incomingStorePacket(client, packet)
    await persistence.putWill(client, { ...packet })
    const records = (): string[] => ['subscriptions', 'outgoing', 'incoming', 'wills', 'retained'].flatMap((store) => [...lone.node.sessions(`mqtt.${store}`).ids()])
    const before = records()
    lone.fence()
    const asked: Record<string, () => Promise<unknown>> = {
      storeRetained: () => persistence.storeRetained(packet),
      clearRetained: () => persistence.storeRetained({ topic: 'heat', payload: '' }),
      addSubscriptions: () => persistence.addSubscriptions(client, [{ topic: 'light', qos: 1 }]),
      removeSubscriptions: () => persistence.removeSubscriptions(client, ['heat']),
      cleanSubscriptions: () => persistence.cleanSubscriptions(client),
      subscriptionsByClient: () => persistence.subscriptionsByClient(client),
      countOffline: () => persistence.countOffline(),
      getClientList: () => persistence.getClientList('heat').toArray(),
      outgoingEnqueue: () => persistence.outgoingEnqueue({ clientId: 'panel' }, packet),
      outgoingEnqueueCombi: () => persistence.outgoingEnqueueCombi([{ clientId: 'panel' }], packet),
      outgoingEnqueueNone: () => persistence.outgoingEnqueueCombi([], packet),
      outgoingUpdate: () => persistence.outgoingUpdate(client, packet),
      outgoingClearMessageId: () => persistence.outgoingClearMessageId(client, packet),
      outgoingStream: () => persistence.outgoingStream(client).toArray(),
      incomingStorePacket: () => persistence.incomingStorePacket(client, { ...packet, messageId: 4 }),
      incomingGetPacket: () => persistence.incomingGetPacket(client, packet),
      incomingDelPacket: () => persistence.incomingDelPacket(client, packet),
      cleanIncoming: () => persistence.cleanIncoming(client),
      putWill: () => persistence.putWill(client, { ...packet }),
      getWill: () => persistence.getWill(client),
    }
    for (const [name, ask] of Object.entries(asked)) await expect(ask(), name).rejects.toEqual(fenced)
    expect(records()).toEqual(before)
  })

  it('gives nothing where aedes would end the process on an error', async () => {
    const persistence = new BackdoorsPersistence(lone.node)
    await persistence.setup({ id: 'broker' })
    const packet = { cmd: 'publish', topic: 'heat', payload: '20', qos: 1 }
    await persistence.storeRetained(packet)
    await persistence.putWill({ id: 'panel' }, { ...packet, brokerId: 'dead' })
    let cuts = 0
    const client: ClientLike = { id: 'panel', will: packet, conn: { destroy: () => cuts++ } }
    lone.fence()
    expect(await persistence.delWill(client)).toBeUndefined()
    expect([cuts, client.will]).toEqual([1, null])
    expect(await persistence.createRetainedStream('#').toArray()).toEqual([])
    expect(await persistence.createRetainedStreamCombi(['#', 'heat']).toArray()).toEqual([])
    expect(await persistence.streamWill({}).toArray()).toEqual([])
  })
})
