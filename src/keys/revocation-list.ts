/** The authority's revocation list (RFC 5280), made anew from the folder of revoked serial numbers. */
import { X509Certificate } from 'node:crypto'
import { join } from 'node:path'
import type { Authority } from './authority.js'
import { authorityPaths, listFolder, nodePaths, readText, replaceFile } from './folder.js'
import { backdatingMs, dayMs, signingAlgorithm, x509 } from './x509.js'

/**
 * OpenSSL turns everyone away once a list is past its next update, so a list outlives every certificate that
 * was issued before it: a node never fails because a list ran out before its own certificate did.
 */
const listMarginMs = 30 * dayMs
const cRLNumberOid = '2.5.29.20'

/** Signs the list, and puts it beside the authority and into the folder of each node. */
export async function publishRevocationList(authority: Authority, now: Date): Promise<void> {
  const paths = authorityPaths(authority.folder)
  for (;;) {
    const serials = await listFolder(paths.revoked)
    const pem = await signRevocationList(authority, serials, now)
    await replaceFile(paths.revocationList, pem, 'public')
    for (const node of await listFolder(paths.nodes)) {
      await replaceFile(nodePaths(join(paths.nodes, node)).revocationList, pem, 'public')
    }
    // Whoever revokes at the same time has added its serial before it wrote; so whoever writes last sees all.
    if ((await listFolder(paths.revoked)).length === serials.length) return
  }
}

async function signRevocationList(authority: Authority, serials: readonly string[], now: Date): Promise<string> {
  const { revoked } = authorityPaths(authority.folder)
  const entries = await Promise.all(
    serials.map(async (serialNumber) => ({ serialNumber, revocationDate: new Date((await readText(join(revoked, serialNumber))).trim()) })),
  )
  const list = await x509.X509CrlGenerator.create({
    issuer: authority.certificate.subjectName,
    thisUpdate: new Date(now.getTime() - backdatingMs),
    nextUpdate: await nextUpdate(authority, now),
    entries,
    signingAlgorithm,
    signingKey: authority.privateKey,
    extensions: [
      await x509.AuthorityKeyIdentifierExtension.create(authority.certificate),
      new x509.Extension(cRLNumberOid, false, derTime(now)),
    ],
  })
  // The library calls it `CRL`; OpenSSL reads only what is called `X509 CRL`.
  return `${x509.PemConverter.encode(list.rawData, 'X509 CRL')}\n`
}

async function nextUpdate(authority: Authority, now: Date): Promise<Date> {
  const { issued } = authorityPaths(authority.folder)
  let last = now.getTime()
  for (const file of await listFolder(issued)) {
    const certificate = new X509Certificate(await readText(join(issued, file)))
    last = Math.max(last, Date.parse(certificate.validTo))
  }
  return new Date(last + listMarginMs)
}

/** Lists are numbered by their time in milliseconds, as a DER INTEGER of 6 bytes: no counter has to be kept. */
function derTime(now: Date): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(8)
  bytes.set([0x02, 0x06])
  Buffer.from(bytes.buffer).writeUIntBE(now.getTime(), 2, 6)
  return bytes
}
