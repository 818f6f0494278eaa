/** Servers that people run, as processes on two nodes; the one that has the clients is killed. */
import { connectAsync, connect as connectMqtt, type IClientOptions } from 'mqtt'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { io } from 'socket.io-client'
import { startDaemon, type Daemon } from 'backdoors'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { startTypescript, type Child } from '../src/region/testing/child.js'
import { Switchboard } from '../src/servers/adapters/testing/switchboard.js'

vi.setConfig({ testTimeout: 60_000 })

let folder: string
let closers: (() => unknown)[]
const region = (node: string): string => join(folder, node)

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'killed-servers-'))
  closers = [() => rmSync(folder, { recursive: true, force: true })]
  const start = async (node: string, peer: string): Promise<void> => {
    const daemon: Daemon = await startDaemon({ node, log: 'silent', region: { path: region(node), boxes: 2, heapBytes: 1 << 20 }, peers: [{ name: peer, region: region(peer) }], watch: { osDeadlineMs: 30_000 } })
    closers.push(() => daemon.close())
  }
  await start('a', 'b')
  await start('b', 'a')
})
afterEach(async () => {
  for (const close of closers.reverse()) await close()
})

async function serve(kind: string, node: string): Promise<{ child: Child; port: number }> {
  const child = startTypescript('../../servers/adapters/testing/adapter-process.ts', [kind, region(node)])
  closers.push(() => kill(child))
  const [, port] = await child.said(/^port (\d+)$/m)
  return { child, port: Number(port) }
}

async function kill(child: Child): Promise<void> {
  child.process.kill('SIGKILL')
  await child.ended()
}

it('Express: the session is at the other node, for a client that comes at once', async () => {
  const [a, b] = await Promise.all([serve('express', 'a'), serve('express', 'b')])
  const first = await fetch(`http://127.0.0.1:${a.port}/add/book`)
  expect(await first.text()).toBe('book')
  await kill(a.child)
  const [cookie = ''] = first.headers.getSetCookie()
  const next = await fetch(`http://127.0.0.1:${b.port}/add/pen`, { headers: { cookie } })
  expect(await next.text()).toBe('book,pen')
})

it('Socket.IO: a client recovers at the other node, with what it has missed', async () => {
  const [a, b] = await Promise.all([serve('socket.io', 'a'), serve('socket.io', 'b')])
  const board = await new Switchboard().open()
  closers.push(() => board.close())
  board.lead(a.port)
  const listener = io(`http://127.0.0.1:${board.port}`, { reconnectionDelay: 20, reconnectionDelayMax: 50 })
  const shouter = io(`http://127.0.0.1:${a.port}`)
  closers.push(() => listener.disconnect(), () => shouter.disconnect())
  const heard: string[] = []
  listener.on('news', (text: string) => void heard.push(text))
  const until = async (count: number): Promise<string[]> => {
    while (heard.length < count) await new Promise<void>((resolve) => listener.once('news', () => resolve()))
    return heard
  }
  await new Promise<void>((resolve) => listener.once('connect', () => resolve()))
  await shouter.emitWithAck('shout', 'one')
  await until(1)
  board.lead(undefined)
  await shouter.emitWithAck('shout', 'two')
  await shouter.emitWithAck('shout', 'three')
  await kill(a.child)
  board.lead(b.port)
  await until(3)
  expect(listener.recovered).toBe(true)
  await listener.emitWithAck('shout', 'four')
  expect(await until(4)).toEqual(['one', 'two', 'three', 'four'])
})

it('aedes: a subscription and a message that waits are at the other node', async () => {
  const [a, b] = await Promise.all([serve('mqtt', 'a'), serve('mqtt', 'b')])
  const as = (clientId: string, port: number): IClientOptions => ({ host: '127.0.0.1', port, clientId, clean: false, reconnectPeriod: 0 })
  const panel = await connectAsync(as('panel', a.port))
  await panel.subscribeAsync('heat/#', { qos: 1 })
  await panel.endAsync()
  const sensor = await connectAsync(as('sensor', a.port))
  // Of QoS 2, since it is acknowledged only when it is in the queues.
  await sensor.publishAsync('heat/hall', '21', { qos: 2 })
  await kill(a.child)
  sensor.end(true)
  await Promise.all(['mqtt.subscriptions', 'mqtt.outgoing'].map((store) => b.child.said(new RegExp(`^adopted ${store}$`, 'm'))))
  const back = connectMqtt(as('panel', b.port))
  closers.push(() => back.end(true))
  const heard: string[] = []
  back.on('message', (topic, payload) => void heard.push(`${topic} ${payload.toString()}`))
  const until = async (count: number): Promise<string[]> => {
    while (heard.length < count) await new Promise<void>((resolve) => back.once('message', () => resolve()))
    return heard
  }
  expect(await until(1)).toEqual(['heat/hall 21'])
  // It is subscribed still, without a word of its own.
  const other = await connectAsync(as('other', b.port))
  await other.publishAsync('heat/cellar', '12', { qos: 1 })
  expect(await until(2)).toEqual(['heat/hall 21', 'heat/cellar 12'])
  await other.endAsync()
})
