/** An aedes of a test, and clients of it. */
import { Aedes } from 'aedes'
import mqtt, { type MqttClient } from 'mqtt'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import type { AttachedNode } from '../../attach.js'
import { BackdoorsPersistence, type BackdoorsPersistenceOptions } from '../aedes.js'

/** What ends it all, in the order opposite to that in which it began. */
export type Closers = (() => unknown)[]

export async function serveMqtt(node: AttachedNode, closers: Closers, options: BackdoorsPersistenceOptions = {}): Promise<{ broker: Aedes; port: number }> {
  const broker = await Aedes.createBroker({ persistence: new BackdoorsPersistence(node, options) })
  const server = createServer((socket) => void broker.handle(socket)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  closers.push(() => new Promise<void>((resolve) => server.close(() => resolve())), () => new Promise<void>((resolve) => broker.close(resolve)))
  return { broker, port: (server.address() as AddressInfo).port }
}

export interface Connected {
  readonly client: MqttClient
  readonly heard: string[]
  until(count: number): Promise<string[]>
}

export async function connectMqtt(closers: Closers, port: number, clientId: string, clean = false): Promise<Connected> {
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
