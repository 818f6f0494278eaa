import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { text } from 'node:stream/consumers'
import { describe, expect, it } from 'vitest'
import { closing, expectCode, temporaryFolder, until } from '../../addon/test/native-fixture.js'
import { startTypescript } from '../region/testing/child.js'
import { networkAddon } from '../native/load.js'
import { closeDescriptors, DescriptorChannel, DescriptorListener, mostDescriptors, mostMessageBytes } from './descriptor-channel.js'

interface Got {
  readonly messages: { readonly bytes: Buffer; readonly descriptors: readonly number[] }[]
  readonly closed: number[]
  drained: number
  channel?: DescriptorChannel
}

const listeners = (got: Got) => ({
  onMessage: (bytes: Uint8Array, descriptors: readonly number[]) => void got.messages.push({ bytes: Buffer.from(bytes), descriptors }),
  onClose: (errno: number) => void got.closed.push(errno),
  onDrain: () => void (got.drained += 1),
  onOpen: (channel: DescriptorChannel) => void (got.channel = channel),
})
const nothing = (): Got => ({ messages: [], closed: [], drained: 0 })

/** Both ends, in this process. */
async function pair(): Promise<{ path: string; listener: DescriptorListener; near: Got; far: Got; channel: DescriptorChannel }> {
  const path = join(temporaryFolder(), 'socket')
  const [near, far] = [nothing(), nothing()]
  const listener = closing(new DescriptorListener(path, () => listeners(far)))
  const channel = closing(DescriptorChannel.connect(path, listeners(near)))
  await until('the connection is accepted', () => far.channel !== undefined)
  return { path, listener, near, far, channel }
}

/** Those of this process that lead to this file. */
const openOn = (path: string): number => readdirSync('/proc/self/fd').filter((fd) => {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === path
  } catch {
    return false
  }
}).length

/** A TCP connection of this process: the client, and the descriptor of the server's end. */
async function connection(): Promise<{ client: Socket; served: Socket; descriptor: number }> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const [served] = (await once(server, 'connection')) as [Socket]
  server.close()
  return { client, served, descriptor: (served as unknown as { _handle: { fd: number } })._handle.fd }
}

describe('a channel for descriptors', () => {
  it('brings messages whole, in their order, both ways', async () => {
    const { near, far, channel } = await pair()
    const sent = [Buffer.from('a'), Buffer.alloc(mostMessageBytes, 7), Buffer.from('the last')]
    for (const each of sent) expect(channel.send(each)).toBe(true)
    await until('all have come', () => far.messages.length === 3)
    expect(far.messages.map(({ bytes }) => bytes)).toEqual(sent)
    far.channel?.send(Buffer.from('back'))
    await until('the answer has come', () => near.messages.length === 1)
    expect(near.messages).toEqual([{ bytes: Buffer.from('back'), descriptors: [] }])
  })

  it('lets descriptors arrive as new ones that are closed on exec, however many go at once', async () => {
    const { far, channel } = await pair()
    const path = join(temporaryFolder(), 'file')
    const own = openSync(path, 'w')
    channel.send(Buffer.from('files'), Array.from({ length: mostDescriptors }, () => own))
    closeSync(own)
    await until('they have come', () => far.messages.length === 1)
    const { descriptors } = far.messages[0]!
    expect([new Set(descriptors).size, openOn(path)]).toEqual([mostDescriptors, mostDescriptors])
    // O_CLOEXEC is 02000000.
    expect(descriptors.filter((fd) => !/^flags:\s+0*2[0-7]{6}$/m.test(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')))).toEqual([])
    closeDescriptors(descriptors)
    expect(openOn(path)).toBe(0)
  })

  it('queues copies while the other end does not take them, says so, and tells when they have left', async () => {
    const { near, far, channel } = await pair()
    const path = join(temporaryFolder(), 'file')
    const own = openSync(path, 'w')
    let count = 1
    while (channel.send(Buffer.alloc(mostMessageBytes, count), [own])) count += 1
    closeSync(own)
    expect(near.drained).toBe(0)
    await until('the queue has left', () => near.drained === 1)
    await until('all have come', () => far.messages.length === count)
    expect(far.messages.map(({ bytes }) => bytes[0])).toEqual(Array.from({ length: count }, (_, i) => i + 1))
    closeDescriptors(far.messages.flatMap(({ descriptors }) => descriptors))
    expect(openOn(path)).toBe(0)
  })

  it('refuses more than 16 MiB that nobody takes', async () => {
    const { channel } = await pair()
    expectCode(() => {
      for (;;) channel.send(Buffer.alloc(mostMessageBytes))
    }, 'QUEUE_FULL')
  })

  it('leaves nothing open of what was queued, or has come and is not read, when it is closed', async () => {
    const { far, channel } = await pair()
    const path = join(temporaryFolder(), 'file')
    const own = openSync(path, 'w')
    while (channel.send(Buffer.alloc(mostMessageBytes), [own]));
    closeSync(own)
    channel.close()
    channel.close()
    far.channel?.close()
    closeDescriptors(far.messages.flatMap(({ descriptors }) => descriptors))
    expect([openOn(path), channel.isOpen, far.channel?.isOpen]).toEqual([0, false, false])
    expectCode(() => channel.send(Buffer.from('late')), 'CLOSED')
  })

  it('tells when the other end has gone', async () => {
    const { near, far, listener } = await pair()
    expect(listener.count).toBe(1)
    far.channel?.close()
    await until('it is told', () => near.closed.length === 1)
    expect([near.closed, far.closed, listener.count]).toEqual([[0], [], 0])
  })

  it('refuses what is no message', async () => {
    const { channel } = await pair()
    expectCode(() => channel.send(new Uint8Array(0)), 'INVALID_ARGUMENT', { field: 'message' })
    expectCode(() => channel.send(new Uint8Array(mostMessageBytes + 1)), 'INVALID_ARGUMENT', { field: 'message' })
    expectCode(() => channel.send(new Uint8Array(1), Array.from({ length: mostDescriptors + 1 }, () => 0)), 'INVALID_ARGUMENT', { field: 'descriptors' })
    expectCode(() => channel.send(new Uint8Array(1), [-1]), 'INVALID_ARGUMENT', { field: 'descriptors' })
    expectCode(() => channel.send(new Uint8Array(1), [2 ** 31 - 1]), 'SYSTEM_CALL_FAILED', { errnoName: 'EBADF', call: 'sendmsg' })
  })

  it('cannot be had where nobody listens', () => {
    const path = join(temporaryFolder(), 'socket')
    expectCode(() => DescriptorChannel.connect(path, listeners(nothing())), 'SYSTEM_CALL_FAILED', { errnoName: 'ENOENT', call: 'connect', path })
    expectCode(() => new (networkAddon().DescriptorListener)(join(path, 'absent'), () => undefined), 'SYSTEM_CALL_FAILED', { errnoName: 'ENOENT', call: 'bind' })
    expectCode(() => DescriptorChannel.connect(`/${'x'.repeat(108)}`, listeners(nothing())), 'INVALID_ARGUMENT', { field: 'path' })
  })

  it('has a file for its owner only, which goes with it', async () => {
    const { path, listener } = await pair()
    expect(statSync(path).mode & 0o777).toBe(0o600)
    listener.close()
    listener.close()
    expectCode(() => DescriptorChannel.connect(path, listeners(nothing())), 'SYSTEM_CALL_FAILED', { errnoName: 'ENOENT' })
  })

  it('is closed where a message is larger or has more descriptors than is allowed, and none of these stays open', async () => {
    const { far, path } = await pair()
    const file = join(temporaryFolder(), 'file')
    const script = `
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(sys.argv[1])
f = os.open(sys.argv[2], os.O_CREAT | os.O_RDWR)
socket.send_fds(s, [b'x' * int(sys.argv[3])], [f] * int(sys.argv[4]))
s.recv(1)`
    for (const [index, [bytes, descriptors]] of [[mostMessageBytes + 1, 3], [1, mostDescriptors + 1]].entries()) {
      const child = spawn('python3', ['-c', script, path, file, String(bytes), String(descriptors)], { stdio: 'inherit' })
      await once(child, 'exit')
      await until('the channel is closed', () => far.closed.length === index + 1)
    }
    expect([far.messages, openOn(file)]).toEqual([[], 0])
    expect(far.closed).toEqual([71, 71])
  })

  it('lets another process serve a connection that this one had', { timeout: 120_000 }, async () => {
    const path = join(temporaryFolder(), 'socket')
    const far = nothing()
    const listener = closing(new DescriptorListener(path, () => listeners(far)))
    const child = startTypescript('../../servers/testing/descriptor-process.ts', [path])
    await child.said(/connected/)
    await until('it is connected', () => far.channel !== undefined)
    const connections = [await connection(), await connection()]
    const answers = connections.map(({ client }) => text(client))
    far.channel?.send(Buffer.from('served'), connections.map(({ descriptor }) => descriptor))
    for (const { served } of connections) served.destroy()
    expect(await Promise.all(answers)).toEqual(['served 0 of 2', 'served 1 of 2'])
    await until('it has answered', () => far.messages.length === 1)
    expect(far.messages[0]?.bytes.toString()).toBe('took 2')
    listener.close()
    await child.said(/closed 0/)
    expect((await child.ended()).code).toBe(0)
  })

  it.each(['terminate', 'return', 'exit'])('ends with its worker thread: %s', async (ending) => {
    const addon = join(process.env['BACKDOORS_ADDON_DIR'] ?? join(import.meta.dirname, '..', '..', 'build', 'Release'), 'network.node')
    const path = join(temporaryFolder(), 'socket')
    const script = `
      const { parentPort, workerData } = require('node:worker_threads')
      const addon = require(workerData.addon)
      addon.initialize((code, message) => Object.assign(new Error(message), { code }))
      let accepted
      const none = { onMessage() {}, onDrain() {}, onClose() {} }
      const listener = new addon.DescriptorListener(workerData.path, (fd) => {
        accepted = new addon.DescriptorChannel(fd, { ...none, onMessage: () => {
          parentPort.postMessage('at work')
          if (workerData.ending === 'exit') process.exit(0)
          if (workerData.ending === 'return') [listener, accepted, channel].forEach((each) => each.setKeepsAlive(false))
        } })
      })
      const channel = new addon.DescriptorChannel(workerData.path, none)
      channel.send(new Uint8Array(1), [0])`
    const before = readdirSync('/proc/self/fd').length
    const worker = new Worker(script, { eval: true, workerData: { addon, path, ending } })
    const exited = once(worker, 'exit')
    await once(worker, 'message')
    if (ending === 'terminate') await worker.terminate()
    expect(await exited).toEqual([ending === 'terminate' ? 1 : 0])
    // The one that came in a message is its listener's, which let it lie.
    await until('all else is closed', () => readdirSync('/proc/self/fd').length <= before + 1)
  })
})
