import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { describe, expect, it } from 'vitest'
import { livingConnections, livingName } from './living-connections.js'

const address = (text: string): Uint8Array => Uint8Array.from(text.split('.').map(Number))
const mapped = (text: string): Uint8Array => Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...address(text))

describe('the connections of this machine', () => {
  it.each([['127.0.0.1', '127.0.0.1'], ['::', '127.0.0.1']])('are those that it has, whatever socket they came by: listening at %s', async (host, to) => {
    const server = createServer()
    server.listen(0, host)
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const client = connect(port, to)
    const [[theirs]] = (await Promise.all([once(server, 'connection'), once(client, 'connect')])) as unknown as [[Socket], unknown]
    const local = { address: mapped('127.0.0.1'), port }
    const remote = { address: mapped('127.0.0.1'), port: client.localPort as number }
    expect(livingConnections().has(livingName({ local, remote }))).toBe(true)
    expect(livingConnections().has(livingName({ local, remote: { ...remote, port: port } }))).toBe(false)
    client.destroy()
    theirs.destroy()
    server.close()
  })

  it('are read as the kernel prints them', () => {
    const texts: Record<string, string> = {
      '/proc/self/net/tcp': [
        '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode',
        '   0: 320900CB:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0000000000000000 100 0 0 10 0',
        '   1: 320900CB:1F90 090900CB:9F08 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0000000000000000 20 4 30 10 -1',
      ].join('\n'),
      '/proc/self/net/tcp6': '   0: B80D0120000000000000000050000000:0050 B80D0120000000000000000009000000:C350 08 00000000:00000000 00:00000000 00000000     0        0 3 1',
    }
    expect([...livingConnections((path) => texts[path] ?? '')]).toEqual(['203.0.9.50:8080 203.0.9.9:40712', '[2001:db8:0:0:0:0:0:50]:80 [2001:db8:0:0:0:0:0:9]:50000'])
  })

  it('are none where the kernel tells of none', () => {
    expect(livingConnections(() => { throw new Error('ENOENT') }).size).toBe(0)
    expect(livingConnections(() => 'nonsense\n 1: zz').size).toBe(0)
  })
})
