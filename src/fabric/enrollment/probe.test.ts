import { once } from 'node:events'
import { createServer } from 'node:net'
import { expect, test } from 'vitest'
import { probeMachine } from './probe.js'

test('a machine that takes the connection answers, and so does one that refuses it', async () => {
  const server = createServer((socket) => socket.on('error', () => undefined)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = { host: '127.0.0.1', port: (server.address() as { port: number }).port }
  expect(await probeMachine(address, 5000)).toEqual({ outcome: 'answers', seen: 'connected' })
  server.close()
  await once(server, 'close')
  expect(await probeMachine(address, 5000)).toEqual({ outcome: 'answers', seen: 'ECONNREFUSED' })
})

test('what this machine cannot ask says nothing', async () => {
  expect(await probeMachine({ host: '255.255.255.255', port: 1 }, 5000)).toMatchObject({ outcome: 'unknown' })
})

test('silence takes as long as it was given', async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  // The time is up before the loop has turned once.
  const now = { nowMs: () => 0, after: (_: number, action: () => void) => (queueMicrotask(action), { cancel: () => undefined }) }
  const { port } = server.address() as { port: number }
  expect(await probeMachine({ host: '127.0.0.1', port }, 1, now)).toEqual({ outcome: 'silent', seen: 'ETIMEDOUT' })
  server.close()
})
