import { openSync } from 'node:fs'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, expect, it } from 'vitest'
import { closing, temporaryFolder, until } from '../../../addon/test/native-fixture.js'
import { networkAddon } from '../../native/load.js'
import type { TcpConnection } from '../../recovery/tcp/connection.js'
import { RestoredSocket } from '../../recovery/tcp/restore.js'
import { startTypescript, type Child } from '../../region/testing/child.js'
import { closeDescriptors, DescriptorChannel } from '../../servers/descriptor-channel.js'
import type { BoxGeneration } from '../offered-sessions.js'
import { ConnectionsSocket } from './connections-socket.js'
import type { Given } from './giving.js'

let child: Child | undefined
afterEach(() => child?.process.kill('SIGKILL'))

const server = { box: 1, generation: 7 }

/** As many as that; the descriptors are of anything. */
const made = (count: number): Given[] => Array.from({ length: count }, (_, i) =>
  ({ name: `n${i}`, life: '1', port: 80, read: 0, written: 0, unread: 0, unacknowledged: 0, socket: new RestoredSocket(networkAddon(), {} as TcpConnection, openSync('/dev/null', 'r')) }))

it('connections go to a server that is there, as copies, and those that it does not get are told apart', async () => {
  const path = join(temporaryFolder(), 'socket')
  const gone: BoxGeneration[] = []
  const socket = closing(new ConnectionsSocket(path, (each) => void gone.push(each), pino({ level: 'silent' })))
  socket.listen()
  expect([socket.isThere(server), socket.give(server, made(1))]).toEqual([false, []])
  const got: string[] = []
  const channel = closing(DescriptorChannel.connect(path, {
    onMessage: (bytes, descriptors) => {
      got.push(...(JSON.parse(Buffer.from(bytes).toString()) as { connections: { name: string }[] }).connections.map(({ name }) => name))
      closeDescriptors(descriptors)
    },
  }))
  channel.send(Buffer.from(JSON.stringify(server)))
  await until('the server is there', () => socket.isThere(server))
  const some = made(130)
  // The first of the third message cannot be sent any more.
  some[128]?.socket.close()
  expect(socket.give(server, some)).toEqual(some.slice(0, 128))
  await until('all that could be sent have come', () => got.length === 128)
  expect([got.at(-1), some[0]?.socket.isOpen, gone]).toEqual(['n127', true, []])
  for (const each of some) each.socket.close()
  channel.close()
  await until('the server is known to have gone', () => gone.length === 1)
  expect([gone, socket.isThere(server)]).toEqual([[server], false])
})

it('a listener without a descriptor left to accept by rests between its tries, and accepts when there is one', { timeout: 120_000 }, async () => {
  const path = join(temporaryFolder(), 'socket')
  child = startTypescript('../../daemon/connections/testing/listener-without-descriptors.ts', [path], [], ['prlimit', '--nofile=256:256'])
  await child.said(/full/)
  const channel = closing(DescriptorChannel.connect(path, { onMessage: () => undefined }))
  child.process.stdin!.write('measure\n')
  const [, loops] = await child.said(/loops (\d+)/)
  // It tries ten times a second; a loop that does not rest runs thousands of times in the half second.
  expect(Number(loops)).toBeLessThan(100)
  await child.said(/accepted/)
  channel.close()
})
