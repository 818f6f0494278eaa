import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import type { Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { ConnectionOptions } from 'node:tls'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { openAuthority, revokeNode } from '../../keys/index.js'
import type { NodeKeys } from '../../keys/index.js'
import { dayMs, exportPrivateKey, generateKeys, newSerial, signingAlgorithm, x509 } from '../../keys/x509.js'
import { enroll } from './client.js'
import { Credentials } from './credentials.js'
import { encodeFrame } from './framing.js'
import { eventually, helloFrame, rawClient, readToEnd, TestAuthority, TestServer } from './testing/fixtures.js'
import { ManualClock } from './testing/manual-clock.js'

let authority: TestAuthority
let foreign: TestAuthority
let good: Credentials
let goodKeys: NodeKeys
let lender: Credentials
beforeAll(async () => {
  authority = await TestAuthority.make()
  foreign = await TestAuthority.make()
  good = await authority.credentials('web-1')
  goodKeys = await authority.keys('web-2')
  lender = await authority.credentials('db-1')
})
afterAll(async () => {
  await authority.remove()
  await foreign.remove()
})

let node: TestServer
let clock: ManualClock
beforeEach(async () => {
  clock = new ManualClock()
  node = await new TestServer(lender, ['web-1', 'web-2', 'web-3'], {
    clock,
    limits: { handshakeTimeoutMs: 5000, maxHandshakes: 16, refusalLinesPerSecond: 5 },
  }).start()
})
/** Whatever was done to it, the node serves on: nothing of the attack is left, and a good peer enrolls. */
afterEach(async () => {
  await eventually(() => expect(node.server.handshakesUnderWay).toBe(0))
  const connection = await enroll(node.toEnroll(good))
  expect(node.server.connections.has('web-1')).toBe(true)
  await connection.close()
  await node.server.close()
})

async function logged(code: string): Promise<void> {
  await eventually(() => expect(node.refusals).toEqual([code]))
}

async function tcp(options: { localAddress?: string } = {}): Promise<Socket> {
  const socket = connectTcp({ ...node.address, ...options })
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  return socket
}

async function untilClosed(socket: Socket): Promise<Buffer> {
  const pieces: Buffer[] = []
  socket.on('data', (piece: Buffer) => pieces.push(piece))
  if (!socket.destroyed) await new Promise((resolve) => socket.once('close', resolve))
  return Buffer.concat(pieces)
}

/** Certificates signed by the true authority that no `issue` would make. */
async function oddKeys(commonNames: string[], dnsNames: string[]): Promise<Partial<NodeKeys>> {
  const { certificate: issuer, privateKey: signingKey } = await openAuthority(authority.folder)
  const keys = await generateKeys()
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: newSerial(),
    issuer: issuer.subjectName,
    subject: commonNames.map((name) => ({ CN: [name] })),
    notBefore: new Date(Date.now() - dayMs),
    notAfter: new Date(Date.now() + dayMs),
    publicKey: keys.publicKey,
    signingKey,
    signingAlgorithm,
    extensions: [
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth]),
      ...(dnsNames.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(dnsNames.map((value) => ({ type: 'dns', value })))]),
    ],
  })
  return { authority: goodKeys.authority, certificate: certificate.toString('pem'), privateKey: await exportPrivateKey(keys.privateKey) }
}

describe('a certificate that does not hold', () => {
  async function refused(keys: Partial<NodeKeys>, why = /names no node/): Promise<void> {
    const socket = await rawClient(node, { ...keys, authority: goodKeys.authority })
    socket.write(helloFrame('web-2'))
    expect(await readToEnd(socket)).toEqual({ messages: [], rest: 0 })
    await logged('CERTIFICATE_INVALID')
    expect(node.lines.at(-1)?.message).toMatch(why)
  }

  test('from a foreign authority of the same name', async () => refused(await foreign.keys('web-2'), /UNABLE_TO_VERIFY|SIGNATURE_FAILURE|UNABLE_TO_GET_ISSUER/))

  test('expired', async () => refused(await authority.keys('web-2', { days: 1, now: new Date(Date.now() - 10 * dayMs) }), /CERT_HAS_EXPIRED/))

  test('revoked', async () => {
    const keys = await authority.keys('web-3')
    await revokeNode(authority.folder, keys.serial)
    node.credentials.replace(await authority.reload('db-1'))
    await refused(keys, /CERT_REVOKED/)
  })

  test.each([
    ['two names', ['web-1', 'web-2'], ['web-1', 'web-2']],
    ['a name without its DNS name', ['web-1'], []],
    ['a name with another DNS name', ['web-1'], ['web-2']],
    ['a name with a DNS wildcard', ['web-1.x'], ['*.x']],
    ['a name in capitals', ['WEB-1'], ['web-1']],
    ['no name', [], ['web-1']],
    ['a name with a newline', ['x\nCN=web-1'], ['web-1']],
  ])('with %s', async (_, commonNames, dnsNames) => refused(await oddKeys(commonNames, dnsNames)))

  test('of a node that is no peer: not a word', async () => {
    const socket = await rawClient(node, await authority.keys('stranger'))
    socket.write(helloFrame('web-1'))
    expect(await readToEnd(socket)).toEqual({ messages: [], rest: 0 })
    await logged('PEER_UNKNOWN')
    expect(node.lines.find((line) => line.code === 'PEER_UNKNOWN')?.peer).toBe('stranger')
  })

  test('none at all', async () => {
    const socket = await rawClient(node, { authority: goodKeys.authority })
    socket.write(helloFrame('web-1'))
    expect(await readToEnd(socket)).toEqual({ messages: [], rest: 0 })
    await logged('CERTIFICATE_INVALID')
  })
})

describe('a client that is not one of ours is shown no certificate', () => {
  async function strangers(options: ConnectionOptions): Promise<void> {
    const socket = connectTls({ ...node.address, rejectUnauthorized: false, ...options })
    const [error] = (await once(socket, 'error')) as [Error]
    expect(error).toMatchObject({ code: 'ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE' })
    expect(socket.getPeerX509Certificate()).toBeUndefined()
    await logged('HANDSHAKE_REFUSED')
  }

  test('asking for no name', async () => strangers({}))
  test('asking for the node by name', async () => strangers({ servername: 'db-1' }))
  test('asking for another node', async () => strangers({ servername: good.knockOn('db-2') }))
  test('with a certificate of its own', async () => {
    const keys = await foreign.keys('web-1')
    await strangers({ key: keys.privateKey, cert: keys.certificate })
  })

  test('and no name of the authority either', async () => {
    const socket = await tcp()
    const tls = connectTls({ socket, rejectUnauthorized: false })
    tls.on('error', () => undefined)
    const seen = await untilClosed(socket)
    expect(seen.includes('shop')).toBe(false)
    expect(seen.includes('db-1')).toBe(false)
    await logged('HANDSHAKE_REFUSED')
  })
})

describe('what is not TLS 1.3', () => {
  test('TLS 1.2, even with good keys', async () => {
    const socket = connectTls({
      ...node.address,
      ca: goodKeys.authority,
      cert: goodKeys.certificate,
      key: goodKeys.privateKey,
      servername: node.credentials.knocks[0]!,
      maxVersion: 'TLSv1.2',
    })
    await expect(once(socket, 'secureConnect')).rejects.toMatchObject({ code: expect.stringMatching(/PROTOCOL_VERSION/) as string })
    await logged('HANDSHAKE_REFUSED')
  })

  test.each([
    ['plain text', helloFrame('web-1')],
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\nHost: db-1\r\n\r\n')],
    ['random bytes', Buffer.from(Array.from({ length: 4096 }, (_, index) => (index * 167 + 13) & 0xff))],
    ['zeros', Buffer.alloc(4096)],
    ['a TLS record that says it is long', Buffer.from('1603010200' + '01'.repeat(16), 'hex')],
  ])('%s', async (_, bytes) => {
    const socket = await tcp()
    socket.end(bytes)
    await untilClosed(socket)
    await logged('HANDSHAKE_REFUSED')
  })

  test('a connection that ends at once', async () => {
    ;(await tcp()).destroy()
    await logged('HANDSHAKE_REFUSED')
  })

  test('a session is never resumed, so every handshake meets the revocation list', async () => {
    const sessions: Buffer[] = []
    const first = await rawClient(node, goodKeys)
    first.on('session', (session) => sessions.push(session))
    first.write(helloFrame('web-2'))
    await eventually(() => expect(node.server.connections.has('web-2')).toBe(true))
    const session = first.getSession()
    const second = await rawClient(node, goodKeys, session === undefined ? {} : { session })
    expect(second.isSessionReused()).toBe(false)
    for (const ticket of sessions) {
      const again = await rawClient(node, goodKeys, { session: ticket })
      expect(again.isSessionReused()).toBe(false)
      again.destroy()
    }
    first.destroy()
    second.destroy()
  })
})

describe('a peer of ours that does not speak the protocol', () => {
  test.each([
    ['an oversize message', Buffer.from('00010001', 'hex'), 'MESSAGE_TOO_LARGE'],
    ['the largest length there is', Buffer.from('ffffffff', 'hex'), 'MESSAGE_TOO_LARGE'],
    ['an empty frame', Buffer.from('00000000', 'hex'), 'PROTOCOL_ERROR'],
    ['no JSON', frameOf('{,}'), 'PROTOCOL_ERROR'],
    ['JSON that is cut short', frameOf('{"type":"hello"'), 'PROTOCOL_ERROR'],
    ['no UTF-8', frameOf(Buffer.from([0x22, 0xff, 0xfe, 0x22])), 'PROTOCOL_ERROR'],
    ['JSON nested deeply', frameOf('['.repeat(60_000)), 'PROTOCOL_ERROR'],
    ['JSON nested deeply and closed', frameOf('['.repeat(30_000) + ']'.repeat(30_000)), 'PROTOCOL_ERROR'],
    ['null', frameOf('null'), 'PROTOCOL_ERROR'],
    ['another message first', encodeFrame({ type: 'ping', id: 1 }), 'PROTOCOL_ERROR'],
    ['a hello with a field too many', helloFrame('web-2', { admin: true }), 'PROTOCOL_ERROR'],
    ['a hello with a __proto__', frameOf(helloFrame('web-2').subarray(4).toString().replace('{', '{"__proto__":{"admin":true},')), 'PROTOCOL_ERROR'],
    ['a hello without endpoints', helloFrame('web-2', { endpoints: undefined }), 'PROTOCOL_ERROR'],
    ['a hello with a queue pair number of 25 bits', helloFrame('web-2', { endpoints: { sampling: { qpn: 1 << 24 } } }), 'PROTOCOL_ERROR'],
  ])('%s', async (_, bytes, code) => {
    const socket = await rawClient(node, goodKeys)
    socket.write(bytes)
    expect(await readToEnd(socket)).toEqual({ messages: [], rest: 0 })
    await logged(code)
  })

  test('a frame that is cut short by the end', async () => {
    const socket = await rawClient(node, goodKeys)
    socket.end(helloFrame('web-2').subarray(0, 100))
    expect(await readToEnd(socket)).toEqual({ messages: [], rest: 0 })
    await logged('HANDSHAKE_REFUSED')
  })

  test.each([
    ['protocol-version', helloFrame('web-2', { protocolVersion: 2, novelty: [] })],
    ['node', helloFrame('web-1')],
    ['cluster', helloFrame('web-2', { cluster: 'other' })],
  ])('but says a proper hello is told: %s', async (refusal, bytes) => {
    const socket = await rawClient(node, goodKeys)
    socket.write(bytes)
    expect((await readToEnd(socket)).messages).toEqual([{ type: 'refused', code: refusal, message: expect.any(String) as string }])
    await logged('HANDSHAKE_REFUSED')
    expect(node.server.connections.size).toBe(0)
  })
})

describe('a peer that takes its time', () => {
  test('and hangs before TLS', async () => {
    const socket = await tcp()
    await eventually(() => expect(node.server.handshakesUnderWay).toBe(1))
    clock.advance(4999)
    expect(node.server.handshakesUnderWay).toBe(1)
    clock.advance(1)
    await untilClosed(socket)
    await logged('HANDSHAKE_TIMEOUT')
  })

  test('and hangs in the middle of a TLS record', async () => {
    const socket = await tcp()
    socket.write(Buffer.from('160301', 'hex'))
    await eventually(() => expect(node.server.handshakesUnderWay).toBe(1))
    clock.advance(5000)
    await untilClosed(socket)
    await logged('HANDSHAKE_TIMEOUT')
  })

  test('and hangs before its hello', async () => {
    const socket = await rawClient(node, goodKeys)
    clock.advance(5000)
    expect(await readToEnd(socket)).toEqual({ messages: [], rest: 0 })
    await logged('HANDSHAKE_TIMEOUT')
  })

  test('and drips its hello: every byte is progress, and the deadline stands', async () => {
    const socket = await rawClient(node, goodKeys)
    const bytes = helloFrame('web-2')
    for (let index = 0; index < 50; index += 1) {
      socket.write(bytes.subarray(index, index + 1))
      await new Promise((resolve) => setImmediate(resolve))
      clock.advance(100)
    }
    expect(await readToEnd(socket)).toEqual({ messages: [], rest: 0 })
    await logged('HANDSHAKE_TIMEOUT')
  })

  test('and drips its hello in time', async () => {
    const socket = await rawClient(node, goodKeys)
    for (const byte of helloFrame('web-2')) socket.write(Buffer.from([byte]))
    await eventually(() => expect(node.server.connections.has('web-2')).toBe(true))
    socket.destroy()
  })
})

describe('a flood of connections that stay half open', () => {
  test('is bounded, is not a flood of lines, and does not keep a good peer out', async () => {
    const half = await Promise.all(Array.from({ length: 100 }, async () => tcp({ localAddress: '127.0.0.2' })))
    await eventually(() => expect(node.refusals.length).toBeGreaterThan(0))
    expect(node.server.handshakesUnderWay).toBeLessThanOrEqual(16)
    const connection = await enroll(node.toEnroll(new Credentials(goodKeys)))
    expect(node.server.handshakesUnderWay).toBeLessThanOrEqual(16)
    await connection.close()
    clock.advance(5000)
    await Promise.all(half.map(untilClosed))
    expect(node.refusals.length).toBeLessThanOrEqual(10)
    expect(new Set(node.refusals)).toEqual(new Set(['HANDSHAKE_REFUSED', 'HANDSHAKE_TIMEOUT']))
    expect(node.lines.some((line) => (line.unlogged ?? 0) > 50)).toBe(true)
  })
})

function frameOf(text: string | Buffer): Buffer {
  const bytes = Buffer.from(text as string)
  const frame = Buffer.alloc(4 + bytes.length)
  frame.writeUInt32BE(bytes.length)
  bytes.copy(frame, 4)
  return frame
}
