import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect, type Socket } from 'node:net'
import { afterEach, expect, it } from 'vitest'
import { continuable } from './continuable.js'
import { listening, PlayedNode } from './testing/harness.js'

const close: (() => void)[] = []

afterEach(() => {
  for (const end of close.splice(0)) end()
})

const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: shop\r\n\r\n`
/** Of 60 KB: of so many, a kernel takes only a part before they are read. */
const bodyOf = (path: string): string => `[${path}]`.padEnd(60_000, path)

async function client(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true })
  close.push(() => socket.destroy())
  await once(socket, 'connect')
  return socket
}

async function read(socket: Socket, isWhole: (text: string) => boolean): Promise<string> {
  let text = ''
  for await (const part of socket.setEncoding('latin1').iterator({ destroyOnReturn: false })) {
    text += part as string
    if (isWhole(text)) break
  }
  return text
}

it('what a kernel has not taken yet stays as it is, while other connections are served', async () => {
  const count = 200
  let behind: Socket | undefined
  const server = createServer((request, response) => {
    if (request.url?.startsWith('/slow') === true) behind = request.socket
    response.sendDate = false
    response.setHeader('content-length', 60_000)
    response.write(bodyOf(request.url as string).slice(0, 1000), 'latin1')
    response.end(Buffer.from(bodyOf(request.url as string).slice(1000)))
  })
  continuable(server, new PlayedNode(), { name: 'shop' })
  close.push(() => server.close(), () => server.closeAllConnections())
  const port = await listening(server)
  const [slow, quick] = [await client(port), await client(port)]
  slow.write(Array.from({ length: count }, (_, i) => get(`/slow-${i}`)).join(''))
  for (let i = 0; i < 20; i++) {
    quick.write(get(`/quick-${i}`))
    const text = await read(quick, (got) => got.length > 60_000)
    expect(text.slice(text.indexOf('\r\n\r\n') + 4)).toBe(bodyOf(`/quick-${i}`))
  }
  expect(behind?.writableLength).toBeGreaterThan(0)
  const end = bodyOf(`/slow-${count - 1}`)
  const answers = (await read(slow, (got) => got.endsWith(end))).split(/HTTP\/1\.1 200 OK\r\n[^[]*\r\n\r\n/).slice(1)
  expect(answers).toHaveLength(count)
  for (const [i, answer] of answers.entries()) expect(answer === bodyOf(`/slow-${i}`), `answer ${i}`).toBe(true)
})
