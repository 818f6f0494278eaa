import { EventEmitter, once } from 'node:events'
import { describe, expect, it } from 'vitest'
import type { BackdoorsError } from '../../errors.js'
import { messagePackCodec } from '../codec.js'
import { BackdoorsPersistence } from './aedes.js'
import type { PacketLike } from './mqtt-records.js'
import { connectMqtt, serveMqtt } from './testing/broker.js'
import { loneNodeEach } from './testing/lone-node-each.js'

const { lone, closers } = loneNodeEach()

const packet = { cmd: 'publish', topic: 'heat', payload: Buffer.from('20'), qos: 1, retain: false, dup: false, brokerId: 'dead', brokerCounter: 1 }
const subscription = { topic: 'heat', qos: 1 }
const queued = { clientId: 'panel', origin: 'dead', epoch: 1, number: 1, packet }
const deep = 'a/'.repeat(100)

/** Of each store: a sound record, and its id; then what is wrong with others of that id, and why they are refused. */
const cases: Record<string, { readonly id: string; readonly sound: object; readonly wrong: readonly (readonly [unknown, string])[] }> = {
  'mqtt.retained': {
    id: 'heat',
    sound: { ...packet, retain: true },
    wrong: [
      [null, 'Cannot destructure'],
      ['heat', 'its topic is none'],
      [{ ...packet, topic: 7 }, 'its topic is none'],
      [{ ...packet, topic: '' }, 'its topic is none'],
      [{ ...packet, topic: deep }, 'its topic is none'],
      [{ ...packet, topic: 'light' }, 'it is not of the topic that it is kept for'],
      [{ ...packet, cmd: 'pubrel', messageId: 1, topic: undefined }, 'it is not of the topic that it is kept for'],
      [{ ...packet, payload: undefined }, 'its payload is none'],
      [{ ...packet, payload: { length: 1 } }, 'its payload is none'],
      [{ ...packet, retain: 'yes' }, 'its retain is none'],
      [{ ...packet, brokerId: {} }, 'its brokerId is none'],
    ],
  },
  'mqtt.subscriptions': {
    id: 'panel',
    sound: { clientId: 'panel', subscriptions: [subscription] },
    wrong: [
      [7, 'it is not of the client that it is kept for'],
      [{ clientId: 'other', subscriptions: [subscription] }, 'it is not of the client that it is kept for'],
      [{ clientId: {}, subscriptions: [subscription] }, 'it is not of the client that it is kept for'],
      [{ clientId: 'panel', subscriptions: 'heat' }, 'its subscriptions are no list'],
      [{ clientId: 'panel', subscriptions: [subscription, null] }, 'Cannot destructure'],
      [{ clientId: 'panel', subscriptions: [{ ...subscription, topic: `${deep}#` }] }, 'its topic is none'],
      [{ clientId: 'panel', subscriptions: [{ ...subscription, topic: '#/#/#/#' }] }, 'a subscription has # before its end'],
      [{ clientId: 'panel', subscriptions: [{ ...subscription, qos: 3 }] }, 'its qos is none'],
      [{ clientId: 'panel', subscriptions: [{ ...subscription, nl: 1 }] }, 'its nl is none'],
    ],
  },
  'mqtt.wills': {
    id: 'panel',
    sound: { ...packet, clientId: 'panel' },
    wrong: [
      [{ ...packet, clientId: 'other' }, 'it is not of the client that it is kept for'],
      [packet, 'it is not of the client that it is kept for'],
      [{ ...packet, clientId: 'panel', qos: '1' }, 'its qos is none'],
      [{ cmd: 'pubrel', messageId: 1, clientId: 'panel' }, 'it has no topic'],
    ],
  },
  'mqtt.outgoing': {
    id: 'panel/dead.1',
    sound: queued,
    wrong: [
      [[], 'it has no place in a queue'],
      [{ ...queued, number: 2 }, 'it has no place in a queue'],
      [{ ...queued, epoch: undefined }, 'it has no place in a queue'],
      [{ ...queued, epoch: 2 ** 53 }, 'it has no place in a queue'],
      [{ ...queued, clientId: 'other' }, 'it has no place in a queue'],
      [{ ...queued, packet: undefined }, 'Cannot destructure'],
      [{ ...queued, packet: { ...packet, cmd: 'connect' } }, 'its cmd is none'],
      [{ ...queued, packet: { ...packet, messageId: 65_536 } }, 'its messageId is none'],
      [{ ...queued, packet: { ...packet, brokerCounter: 'x' } }, 'its brokerCounter is none'],
      [{ ...queued, packet: { cmd: 'pubrel' } }, 'its messageId is none'],
    ],
  },
  'mqtt.incoming': { id: 'panel/dead.1', sound: queued, wrong: [[{ ...queued, packet: 'x' }, 'its topic is none']] },
}

/** What a persistence knows, by which it is told whether a record was taken up. */
async function known(persistence: BackdoorsPersistence): Promise<Record<string, number>> {
  return {
    'mqtt.retained': (await persistence.createRetainedStream('#').toArray()).length,
    'mqtt.subscriptions': (await persistence.subscriptionsByTopic('heat')).length,
    'mqtt.wills': (await persistence.streamWill({}).toArray()).length,
    'mqtt.outgoing': (await persistence.outgoingStream({ id: 'panel' }).toArray()).length,
    'mqtt.incoming': await persistence.incomingGetPacket({ id: 'panel' }, { messageId: undefined }).then(() => 1, () => 0),
  }
}

async function persistenceOf(onError: (error: BackdoorsError) => void): Promise<BackdoorsPersistence> {
  const persistence = new BackdoorsPersistence(lone.node, { onError })
  await persistence.setup({ id: 'broker' })
  return persistence
}

const nothing = Object.fromEntries(Object.keys(cases).map((store) => [store, 0]))
const table = Object.entries(cases).flatMap(([store, { id, wrong }]) => wrong.map(([record, reason], i) => ({ store, id, record, reason, number: i + 1 })))

describe('a record that is hostile', () => {
  it.each(table)('is left out, and told of, in $store, number $number: $reason', async ({ store, id, record, reason }) => {
    lone.node.sessions<unknown>(store).commit(id, record)
    const refused = expect.objectContaining({ code: 'PAYLOAD_INVALID', message: expect.stringContaining(reason) as string, details: expect.objectContaining({ store, sessionId: id }) as object }) as BackdoorsError
    const here: BackdoorsError[] = []
    expect(await known(await persistenceOf((error) => here.push(error)))).toEqual(nothing)
    expect(here).toEqual([refused])
    lone.node.sessions<unknown>(store).delete(id)
    const told = new EventEmitter<{ refusal: [BackdoorsError] }>()
    const persistence = await persistenceOf((error) => told.emit('refusal', error))
    const refusal = once(told, 'refusal')
    lone.node.sessions<unknown>(store).commit(id, record)
    lone.node.sessions<unknown>(store).emit('adopted', { from: 'b', ids: [id] })
    expect(await refusal).toEqual([refused])
    expect(await known(persistence)).toEqual(nothing)
  })

  it.each(Object.keys(cases))('is no sound one: those of %s are taken up', async (store) => {
    const { id, sound } = cases[store] as { id: string; sound: object }
    lone.node.sessions(store).commit(id, sound)
    const errors: BackdoorsError[] = []
    expect(await known(await persistenceOf((error) => errors.push(error)))).toEqual({ ...nothing, [store]: 1 })
    expect(errors).toEqual([])
  })

  it('is counted, and its neighbours are served', async () => {
    const errors: BackdoorsError[] = []
    const outgoing = lone.node.sessions<unknown>('mqtt.outgoing')
    outgoing.commit('panel/dead.1', messagePackCodec<unknown>().encode(queued))
    outgoing.commit('panel/dead.2', { ...queued, number: 2 })
    outgoing.commit('panel/dead.3', null)
    const { port } = await serveMqtt(lone.node, closers, { onError: (error) => errors.push(error) })
    const subscriptions = lone.node.sessions<unknown>('mqtt.subscriptions')
    subscriptions.commit('other', 7)
    subscriptions.commit('panel', { clientId: 'panel', subscriptions: [subscription] })
    subscriptions.emit('adopted', { from: 'b', ids: ['other', 'panel'] })
    const panel = await connectMqtt(closers, port, 'panel')
    expect(await panel.until(1)).toEqual(['heat 20'])
    await panel.client.publishAsync('heat', '21', { qos: 1 })
    expect(await panel.until(2)).toEqual(['heat 20', 'heat 21'])
    expect(errors.map(({ message }) => message.replace(/;.*$/, ''))).toEqual(['2 of 3 records of store mqtt.outgoing were left out', '1 of 2 records of store mqtt.subscriptions were left out'])
    await panel.client.endAsync()
  })

  it('that does not decode is left out with the error of its store', async () => {
    const { node } = lone
    const errors: BackdoorsError[] = []
    node.sessions<PacketLike>('mqtt.retained', { schemaVersion: 1 }).commit('heat', packet)
    const again = await lone.restart()
    again.sessions<PacketLike>('mqtt.retained', { schemaVersion: 2 })
    expect(await known(await persistenceOf((error) => errors.push(error)))).toEqual(nothing)
    expect(errors).toEqual([expect.objectContaining({ code: 'SCHEMA_MISMATCH' })])
  })
})
