import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, it } from 'vitest'
import { HttpConnection } from './http-client.js'

const request = Buffer.from('GET / HTTP/1.1\r\nhost: a\r\n\r\n')

it('a connection gives the body of each answer, and rejects what is asked for when the server has closed it', async () => {
  const server = createServer((_, response) => response.writeHead(200, { 'content-length': 2 }).end('ok')).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const [kept, closedHere] = [await HttpConnection.open(port), await HttpConnection.open(port)]
  expect([await kept.request(request), await kept.request(request)]).toEqual(['ok', 'ok'])
  closedHere.close()
  await expect(closedHere.request(request)).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
  server.closeAllConnections()
  // Be it that the client has seen it by then, or not.
  await expect(kept.request(request)).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
  await expect(kept.request(request)).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
  await new Promise((resolve) => server.close(resolve))
})
