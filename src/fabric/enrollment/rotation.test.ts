import { once } from 'node:events'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { initAuthority, issueNode, loadNodeKeys, revokeNode } from '../../keys/index.js'
import { enroll } from './client.js'
import type { ControlConnection } from './control-connection.js'
import { Credentials } from './credentials.js'
import { rawClient, readToEnd, TestAuthority, TestServer } from './testing/fixtures.js'

let authority: TestAuthority
let lender: Credentials
let watcher: Credentials
let node: TestServer
beforeEach(async () => {
  authority = await TestAuthority.make()
  lender = await authority.credentials('db-1')
  watcher = await authority.credentials('web-1')
  node = await new TestServer(lender, ['web-1', 'web-2']).start()
})
afterEach(async () => {
  await node.server.close()
  await authority.remove()
})

async function shownSerial(): Promise<string> {
  const socket = await rawClient(node, await authority.reload('web-1'))
  const { serialNumber } = socket.getPeerCertificate()
  socket.destroy()
  return serialNumber.toLowerCase()
}

test('a new certificate is shown from the next handshake on, and the connections that stand stay', async () => {
  const before = await enroll(node.toEnroll(watcher))
  const fresh = await authority.keys('db-1')
  expect(await shownSerial()).not.toBe(fresh.serial)
  lender.replace(fresh)
  expect(await shownSerial()).toBe(fresh.serial)
  watcher.replace(await authority.keys('web-1'))
  const after = await enroll(node.toEnroll(watcher))
  expect(await before.closed).toMatchObject({ reason: 'reset' })
  await after.close()
})

test('a certificate that was rotated away stays good until it is revoked', async () => {
  const old = new Credentials(await authority.reload('web-1'))
  const fresh = new Credentials(await authority.keys('web-1'))
  await (await enroll(node.toEnroll(old))).close()
  await revokeNode(authority.folder, old.keys.serial)
  await lender.reload(join(authority.folder, 'nodes', 'db-1'))
  await expect(enroll(node.toEnroll(old))).rejects.toMatchObject({ code: 'HANDSHAKE_REFUSED' })
  await (await enroll(node.toEnroll(fresh))).close()
})

test('revoking a watcher ends its connection as soon as the lender has the list', async () => {
  const arrival = once(node.server, 'enrolled')
  const connection = await enroll(node.toEnroll(watcher))
  const [, there] = (await arrival) as [string, ControlConnection]
  const other = await enroll(node.toEnroll(await authority.credentials('web-2')))
  await revokeNode(authority.folder, 'web-1')
  lender.replace(await authority.reload('db-1'))
  expect(await there.closed).toMatchObject({ reason: 'dismissed', by: 'us', error: { code: 'CERTIFICATE_INVALID' } })
  expect(await connection.closed).toMatchObject({ reason: 'reset' })
  expect([...node.server.connections.keys()]).toEqual(['web-2'])
  await other.close()
})

test('revoking a lender ends the connections to it, and no new one is made', async () => {
  const connection = await enroll(node.toEnroll(watcher))
  await revokeNode(authority.folder, 'db-1')
  watcher.replace(await authority.reload('web-1'))
  expect(await connection.closed).toMatchObject({ reason: 'dismissed', error: { code: 'CERTIFICATE_INVALID' } })
  await expect(enroll(node.toEnroll(watcher))).rejects.toMatchObject({ code: 'CERTIFICATE_INVALID', message: expect.stringContaining('revoked') as string })
})

test('a list that has run out lets nobody in, and says so', async () => {
  const long = new Date(Date.now() - 1000 * 86_400_000)
  const folder = join(authority.folder, 'old')
  await initAuthority(folder, { cluster: 'shop', now: long })
  const early = await issueNode(folder, 'web-1', { days: 1, now: long })
  const stale = (await loadNodeKeys(early.folder, long)).revocationList!
  const late = await loadNodeKeys((await issueNode(folder, 'web-1')).folder)
  const server = await new TestServer(new Credentials(await loadNodeKeys((await issueNode(folder, 'db-1')).folder)), ['web-1']).start()
  const behind = new Credentials({ ...late, revocationList: stale })
  await expect(enroll(server.toEnroll(behind))).rejects.toMatchObject({ code: 'CERTIFICATE_INVALID', message: expect.stringContaining('CRL') as string })
  await server.server.close()
})

test('from one authority to the next: while both are trusted, all four meetings work', async () => {
  const next = await TestAuthority.make()
  try {
    const [oldNode, newNode] = [await authority.reload('db-1'), await next.keys('db-1')]
    const [oldPeer, newPeer] = [await authority.reload('web-1'), await next.keys('web-1')]
    const both = { authority: oldNode.authority + newNode.authority, revocationList: oldNode.revocationList! + newNode.revocationList!, authorityDigests: [...oldNode.authorityDigests, ...newNode.authorityDigests] }
    for (const serving of [oldNode, newNode]) {
      lender.replace({ ...serving, ...both })
      for (const watching of [oldPeer, newPeer]) await (await enroll(node.toEnroll(new Credentials({ ...watching, ...both })))).close()
    }
  } finally {
    await next.remove()
  }
})

test('keys that cannot be used leave the old ones in use', async () => {
  const { serial } = lender.keys
  const { keys } = watcher
  expect(() => lender.replace(keys)).toThrow(expect.objectContaining({ code: 'CERTIFICATE_INVALID' }) as Error)
  expect(() => lender.replace({ ...lender.keys, privateKey: 'no key' })).toThrow(expect.objectContaining({ code: 'CERTIFICATE_INVALID' }) as Error)
  await expect(lender.reload(join(authority.folder, 'nowhere'))).rejects.toMatchObject({ code: 'KEYS_MISSING' })
  expect(await shownSerial()).toBe(serial)
  const socket = await rawClient(node, keys)
  socket.end()
  await readToEnd(socket)
})
