import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { describe, expect, it } from 'vitest'
import { connectionName } from '../../recovery/tcp/connection.js'
import { addressBytes, nameOfSocket } from './names.js'

const bytes = (text: string): string => Buffer.from(addressBytes(text)).toString('hex')

describe('the name of a connection', () => {
  it.each([
    ['192.0.2.1', 'c0000201'], ['::ffff:192.0.2.1', 'c0000201'], ['::FFFF:192.0.2.1', 'c0000201'],
    ['::', '0'.repeat(32)], ['::1', `${'0'.repeat(31)}1`], ['2001:db8::', `20010db8${'0'.repeat(24)}`], ['2001:db8::8:800:200c:417a', '20010db80000000000080800200c417a'],
    ['2001:db8:1:2:3:4:5:6', '20010db8000100020003000400050006'], ['fe80::1%eth0', `fe80${'0'.repeat(27)}1`], ['64:ff9b::192.0.2.33', '0064ff9b0000000000000000c0000221'],
  ])('takes %s for %s', (text, expected) => expect(bytes(text)).toBe(expected))

  it('is not there for a socket without ends', () => expect(nameOfSocket({})).toBeUndefined())

  it.each([['127.0.0.1', Uint8Array.of(127, 0, 0, 1)], ['::1', Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)]])('is that of %s where a server listens to both families', async (host, address) => {
    const server = createServer().listen(0, '::')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const client = connect(port, host)
    const [[socket]] = (await Promise.all([once(server, 'connection'), once(client, 'connect')])) as unknown as [[Socket], unknown]
    expect(nameOfSocket(socket)).toBe(connectionName({ local: { address, port }, remote: { address, port: client.localPort! } }))
    client.destroy()
    socket.destroy()
    server.close()
  })
})
