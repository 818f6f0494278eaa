import { Aedes } from 'aedes'
import { connect, connectAsync, type IClientOptions } from 'mqtt'
import { once } from 'node:events'
import { createServer, type AddressInfo, type Server } from 'node:net'
import type { AttachedNode } from 'backdoors'
import { BackdoorsPersistence } from 'backdoors/aedes'
import { twoNodes } from './two-nodes.js'

async function serve(node: AttachedNode): Promise<{ broker: Aedes; server: Server; port: number }> {
  const broker = await Aedes.createBroker({ persistence: new BackdoorsPersistence(node) })
  const server = createServer((socket) => void broker.handle(socket)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { broker, server, port: (server.address() as AddressInfo).port }
}

const nodes = await twoNodes()
const brokers = [await serve(nodes.a), await serve(nodes.b)]
const [onA = 0, onB = 0] = brokers.map(({ port }) => port)
const as = (clientId: string, port: number): IClientOptions => ({ host: '127.0.0.1', port, clientId, clean: false, reconnectPeriod: 0 })

// A panel subscribes, and is away when a message for it comes.
const panel = await connectAsync(as('panel', onA))
await panel.subscribeAsync('heat/#', { qos: 1 })
await panel.endAsync()
const sensor = await connectAsync(as('sensor', onA))
await sensor.publishAsync('heat/hall', '21 degrees', { qos: 1 })
await sensor.endAsync()

const adopted = ['mqtt.subscriptions', 'mqtt.outgoing'].map((store) => once(nodes.b.sessions(store), 'adopted'))
nodes.hang()
await Promise.all(adopted)
const back = connect(as('panel', onB))
const message = await new Promise<string>((resolve) => back.once('message', (topic, text) => resolve(`${topic}: ${text.toString()}`)))
console.log('The other node owes the panel', message)

await back.endAsync()
for (const { broker, server } of brokers) {
  await new Promise<void>((resolve) => broker.close(resolve))
  server.close()
}
await nodes.close()
