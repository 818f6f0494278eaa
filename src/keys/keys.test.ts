import { X509Certificate } from 'node:crypto'
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { checkNodeKeys, initAuthority, isNodeName, issueNode, loadNodeKeys, openAuthority, revokeNode } from './index.js'
import { x509 } from './x509.js'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'backdoors-keys-'))
})
afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

const day = 86_400_000
const now = new Date('2026-03-01T12:00:00Z')

async function revokedSerials(path: string): Promise<string[]> {
  return new x509.X509Crl(await readFile(path, 'utf8')).entries.map((entry) => entry.serialNumber)
}

describe('the authority', () => {
  test('is a P-256 certificate that may sign certificates and lists, for its cluster only, with a key for its owner only', async () => {
    await initAuthority(folder, { cluster: 'shop', now })
    const certificate = new X509Certificate(await readFile(join(folder, 'authority.pem')))
    expect(certificate.ca).toBe(true)
    expect(certificate.subject).toBe('O=shop\nCN=shop authority')
    expect(certificate.publicKey.asymmetricKeyDetails).toEqual({ namedCurve: 'prime256v1' })
    expect((await stat(join(folder, 'authority.key'))).mode & 0o777).toBe(0o600)
    expect(await revokedSerials(join(folder, 'crl.pem'))).toEqual([])
  })

  test('is never overwritten', async () => {
    await initAuthority(folder, { cluster: 'shop' })
    const before = await readFile(join(folder, 'authority.key'), 'utf8')
    await expect(initAuthority(folder, { cluster: 'shop' })).rejects.toMatchObject({ code: 'KEYS_EXIST' })
    await rm(join(folder, 'authority.pem'))
    await expect(initAuthority(folder, { cluster: 'shop' })).rejects.toMatchObject({ code: 'KEYS_EXIST' })
    expect(await readFile(join(folder, 'authority.key'), 'utf8')).toBe(before)
  })

  test('of two made at once in one folder, one is made', async () => {
    const both = await Promise.allSettled([initAuthority(folder, { cluster: 'a' }), initAuthority(folder, { cluster: 'b' })])
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
    await openAuthority(folder)
  })

  test('does not open when missing, expired, damaged, or with a key open to all', async () => {
    await expect(openAuthority(folder)).rejects.toMatchObject({ code: 'KEYS_MISSING' })
    await initAuthority(folder, { cluster: 'shop', days: 1, now })
    await expect(openAuthority(folder, new Date(now.getTime() + 2 * day))).rejects.toMatchObject({ code: 'CERTIFICATE_INVALID' })
    await chmod(join(folder, 'authority.key'), 0o644)
    await expect(openAuthority(folder, now)).rejects.toMatchObject({ code: 'CERTIFICATE_INVALID' })
    await chmod(join(folder, 'authority.key'), 0o600)
    await writeFile(join(folder, 'authority.pem'), 'not a certificate')
    await expect(openAuthority(folder, now)).rejects.toMatchObject({ code: 'CERTIFICATE_INVALID' })
  })
})

describe('a node', () => {
  test('gets a certificate in its name, for both ends of a connection, and a key for its owner only', async () => {
    await initAuthority(folder, { cluster: 'shop' })
    const issued = await issueNode(folder, 'web-1', { days: 10 })
    const certificate = new X509Certificate(await readFile(join(issued.folder, 'node.pem')))
    expect(certificate.subject).toBe('O=shop\nCN=web-1')
    expect(certificate.subjectAltName).toBe('DNS:web-1')
    expect(certificate.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'])
    expect(certificate.ca).toBe(false)
    expect((await stat(join(issued.folder, 'node.key'))).mode & 0o777).toBe(0o600)
    expect(await loadNodeKeys(issued.folder)).toMatchObject({ node: 'web-1', serial: issued.serial })
  })

  test('is issued again under a new serial number, and the old certificate stays valid', async () => {
    await initAuthority(folder, { cluster: 'shop' })
    const first = await issueNode(folder, 'web-1')
    const old = await loadNodeKeys(first.folder)
    const second = await issueNode(folder, 'web-1')
    expect(second.serial).not.toBe(first.serial)
    expect((await loadNodeKeys(second.folder)).serial).toBe(second.serial)
    await checkNodeKeys(old)
    expect(await revokedSerials(join(folder, 'crl.pem'))).toEqual([])
  })

  test('never outlives its authority', async () => {
    const authority = await initAuthority(folder, { cluster: 'shop', days: 5 })
    const issued = await issueNode(folder, 'web-1', { days: 300 })
    expect(issued.notAfter).toEqual(authority.certificate.notAfter)
  })

  test.each(['', '-', 'a-', '.a', 'A', 'a b', 'a/b', '../a', 'a\n', 'ä', '10.0.0.1', 'x'.repeat(64), 'a_b'])('cannot be called %j', async (name) => {
    await initAuthority(folder, { cluster: 'shop' })
    await expect(issueNode(folder, name)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', details: { field: 'node' } })
    expect(await readdir(folder)).not.toContain('nodes')
  })

  test.each(['a', '0', 'web-1', 'web-1.rack.2', 'x'.repeat(63)])('can be called %j', (name) => {
    expect(isNodeName(name)).toBe(true)
  })

  test.each([0, -1, NaN, Infinity, 1e6])('cannot be issued for %d days', async (days) => {
    await initAuthority(folder, { cluster: 'shop' })
    await expect(issueNode(folder, 'a', { days })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', details: { field: 'days' } })
  })
})

describe('revocation', () => {
  test('by name takes all certificates of the node and no other, and reaches every node folder', async () => {
    await initAuthority(folder, { cluster: 'shop' })
    const first = await issueNode(folder, 'web-1')
    const second = await issueNode(folder, 'web-1')
    const other = await issueNode(folder, 'web-2')
    const { serials } = await revokeNode(folder, 'web-1')
    expect([...serials].sort()).toEqual([first.serial, second.serial].sort())
    expect((await revokedSerials(join(other.folder, 'crl.pem'))).sort()).toEqual([first.serial, second.serial].sort())
  })

  test('by serial number takes that certificate only, and is idempotent', async () => {
    await initAuthority(folder, { cluster: 'shop' })
    const first = await issueNode(folder, 'web-1')
    await issueNode(folder, 'web-1')
    await revokeNode(folder, first.serial.toUpperCase(), { now })
    await revokeNode(folder, first.serial)
    const list = new x509.X509Crl(await readFile(join(folder, 'crl.pem'), 'utf8'))
    expect(list.entries.map((entry) => [entry.serialNumber, entry.revocationDate])).toEqual([[first.serial, now]])
  })

  test('of what was never issued says so', async () => {
    await initAuthority(folder, { cluster: 'shop' })
    for (const unknown of ['web-9', '../authority', 'f'.repeat(32)]) {
      await expect(revokeNode(folder, unknown)).rejects.toMatchObject({ code: 'KEYS_MISSING' })
    }
  })

  test('the list outlives every certificate issued before it', async () => {
    await initAuthority(folder, { cluster: 'shop', now })
    const issued = await issueNode(folder, 'web-1', { now, days: 700 })
    const { nextUpdate } = await loadNodeKeys(issued.folder, now)
    expect(nextUpdate!.getTime()).toBeGreaterThan(issued.notAfter.getTime())
  })

  test('a list that has run out is not loaded', async () => {
    await initAuthority(folder, { cluster: 'shop', now })
    const old = await readFile(join(folder, 'crl.pem'))
    const issued = await issueNode(folder, 'web-1', { now })
    await writeFile(join(issued.folder, 'crl.pem'), old)
    await loadNodeKeys(issued.folder, new Date(now.getTime() + 29 * day))
    const late = loadNodeKeys(issued.folder, new Date(now.getTime() + 31 * day))
    await expect(late).rejects.toMatchObject({ code: 'CERTIFICATE_INVALID', message: expect.stringMatching(/revocation list ran out/) as string })
  })

  test('two at once both reach the list', async () => {
    await initAuthority(folder, { cluster: 'shop' })
    const nodes = ['a', 'b', 'c', 'd']
    for (const node of nodes) await issueNode(folder, node)
    await Promise.all(nodes.map((node) => revokeNode(folder, node)))
    expect(await revokedSerials(join(folder, 'crl.pem'))).toHaveLength(4)
  })
})

describe('key files that do not belong together are told apart', () => {
  test.each([
    ['a foreign authority', /not issued by the authority/, async (own: string, foreign: string) => writeFile(join(own, 'authority.pem'), await readFile(join(foreign, 'authority.pem')))],
    ['a foreign key', /private key is not that/, async (own: string, foreign: string) => writeFile(join(own, 'node.key'), await readFile(join(foreign, 'node.key')))],
    ['a foreign list', /not signed by the authority/, async (own: string, foreign: string) => writeFile(join(own, 'crl.pem'), await readFile(join(foreign, 'crl.pem')))],
    ['an empty list', /no revocation list/, async (own: string) => writeFile(join(own, 'crl.pem'), '')],
    ['no certificate', /no certificate/, async (own: string) => writeFile(join(own, 'node.pem'), 'x')],
    ['an open key', /open to every user/, async (own: string) => chmod(join(own, 'node.key'), 0o604)],
    ['an authority for a node', /names no node/, async (own: string) => writeFile(join(own, 'node.pem'), await readFile(join(own, 'authority.pem')))],
  ])('%s', async (_, message, damage) => {
    const [a, b] = [join(folder, 'a'), join(folder, 'b')]
    await initAuthority(a, { cluster: 'shop' })
    await initAuthority(b, { cluster: 'shop' })
    const own = (await issueNode(a, 'web-1')).folder
    await damage(own, (await issueNode(b, 'web-1')).folder)
    await expect(loadNodeKeys(own)).rejects.toMatchObject({ code: 'CERTIFICATE_INVALID', message: expect.stringMatching(message) as string })
  })

  test('expired and not yet valid', async () => {
    await initAuthority(folder, { cluster: 'shop', now })
    const { folder: own } = await issueNode(folder, 'web-1', { days: 2, now })
    await expect(loadNodeKeys(own, new Date(now.getTime() + 3 * day))).rejects.toMatchObject({ code: 'CERTIFICATE_INVALID', message: expect.stringMatching(/expired on/) as string })
    await expect(loadNodeKeys(own, new Date(now.getTime() - day))).rejects.toMatchObject({ code: 'CERTIFICATE_INVALID', message: expect.stringMatching(/valid from/) as string })
    await expect(loadNodeKeys(join(folder, 'nowhere'))).rejects.toMatchObject({ code: 'KEYS_MISSING' })
  })
})
