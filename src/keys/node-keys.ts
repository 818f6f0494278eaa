/** What a node holds to prove who it is: its certificate and key, its authority, the revocation list. */
import { createHash, createPrivateKey, X509Certificate } from 'node:crypto'
import { BackdoorsError } from '../errors.js'
import { nodePaths, readSecret, readText, readTextIfThere } from './folder.js'
import { nodeNameOf } from './node-certificate.js'
import { splitPem } from './pem.js'
import { x509 } from './x509.js'

/** The texts of a node's key files. Each may come from `backdoors keys issue` or from an authority of one's own. */
export interface NodeKeyTexts {
  /** PEM of the authority's certificate; several while one authority follows another. */
  readonly authority: string
  /** PEM of the node's certificate, followed by intermediate ones if there are any. */
  readonly certificate: string
  /** PEM of its private key. */
  readonly privateKey: string
  /** PEM of the revocation list, one per authority. Without it nothing can be revoked. */
  readonly revocationList?: string
}

/** Key files that were checked and belong together. */
export interface NodeKeys extends NodeKeyTexts {
  /** The node's name, as its certificate states it. */
  readonly node: string
  /** 32 hexadecimal digits for certificates of our own making. */
  readonly serial: string
  readonly notAfter: Date
  /** When the first of the revocation lists has to be replaced; after it nobody is let in. */
  readonly nextUpdate?: Date
  /** SHA-256 of each authority's public key (DER, SubjectPublicKeyInfo). */
  readonly authorityDigests: readonly Uint8Array[]
}

/**
 * Loads the key files of a node from its folder.
 * @throws BackdoorsError KEYS_MISSING, CERTIFICATE_INVALID, SYSTEM_CALL_FAILED.
 */
export async function loadNodeKeys(folder: string, now: Date = new Date()): Promise<NodeKeys> {
  const paths = nodePaths(folder)
  const revocationList = await readTextIfThere(paths.revocationList)
  return await checkNodeKeys(
    {
      authority: await readText(paths.authority),
      certificate: await readText(paths.certificate),
      privateKey: await readSecret(paths.privateKey),
      ...(revocationList === undefined ? {} : { revocationList }),
    },
    now,
    folder,
  )
}

/**
 * Checks that key files belong together and are valid at `now`.
 * @param path Where they came from, for the error.
 * @throws BackdoorsError CERTIFICATE_INVALID with what is wrong and what to do.
 */
export async function checkNodeKeys(texts: NodeKeyTexts, now: Date = new Date(), path?: string): Promise<NodeKeys> {
  try {
    return await check(texts, now)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    const where = path === undefined ? 'these key files' : `the key files in ${path}`
    throw new BackdoorsError('CERTIFICATE_INVALID', `${where} cannot be used: ${reason}`, { cause: error, ...(path === undefined ? {} : { path }) })
  }
}

async function check(texts: NodeKeyTexts, now: Date): Promise<NodeKeys> {
  const authorities = splitPem(texts.authority, 'CERTIFICATE').map((pem) => new X509Certificate(pem))
  const [certificate, ...chain] = splitPem(texts.certificate, 'CERTIFICATE').map((pem) => new X509Certificate(pem))
  if (authorities.length === 0 || certificate === undefined) throw new Error('there is no certificate in them')
  const node = nodeNameOf(certificate)
  if (node === undefined) throw new Error("the certificate names no node: its one CN has to be the node's name, and to stand among its DNS names too")
  if (!certificate.checkPrivateKey(createPrivateKey(texts.privateKey))) {
    throw new Error('the private key is not that of the certificate (if they are being replaced, load them again)')
  }
  if (![...chain, ...authorities].some((issuer) => certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey))) {
    throw new Error("the certificate was not issued by the authority that stands beside it")
  }
  const notAfter = new Date(certificate.validTo)
  if (now >= notAfter) throw new Error(`the certificate expired on ${notAfter.toISOString()}: issue it again`)
  if (now < new Date(certificate.validFrom)) throw new Error(`the certificate is valid from ${certificate.validFrom} only: check this machine's clock`)
  const nextUpdate = await checkRevocationLists(texts, authorities)
  if (nextUpdate !== undefined && now >= nextUpdate) {
    throw new Error(`the revocation list ran out on ${nextUpdate.toISOString()}: bring the authority's newest (\`backdoors keys issue\` and \`revoke\` write it)`)
  }
  return {
    ...texts,
    node,
    serial: certificate.serialNumber.toLowerCase(),
    notAfter,
    authorityDigests: authorities.map((authority) => digestOf(authority)),
    ...(nextUpdate === undefined ? {} : { nextUpdate }),
  }
}

async function checkRevocationLists(texts: NodeKeyTexts, authorities: readonly X509Certificate[]): Promise<Date | undefined> {
  if (texts.revocationList === undefined) return undefined
  const lists = splitPem(texts.revocationList, 'X509 CRL').map((pem) => new x509.X509Crl(pem))
  if (lists.length === 0) throw new Error('there is no revocation list in the file that should hold it')
  let first: Date | undefined
  for (const list of lists) {
    const signed = await Promise.all(
      authorities.map((authority) => list.verify({ publicKey: new x509.PublicKey(authority.publicKey.export({ type: 'spki', format: 'der' })) })),
    )
    if (!signed.includes(true)) throw new Error('a revocation list was not signed by the authority that stands beside it')
    if (list.nextUpdate !== undefined && (first === undefined || list.nextUpdate < first)) first = list.nextUpdate
  }
  return first
}

function digestOf(authority: X509Certificate): Uint8Array {
  return createHash('sha256').update(authority.publicKey.export({ type: 'spki', format: 'der' })).digest()
}
