/** A cluster's own certificate authority: one key, kept by the operator. */
import { stat } from 'node:fs/promises'
import { asBackdoorsError, BackdoorsError } from '../errors.js'
import { authorityPaths, createSecret, makeFolder, readSecret, readText, replaceFile } from './folder.js'
import { assertName } from './node-name.js'
import { publishRevocationList } from './revocation-list.js'
import { backdatingMs, dayMs, exportPrivateKey, generateKeys, importPrivateKey, newSerial, signingAlgorithm, x509 } from './x509.js'
import type { CryptoKey, CryptoKeyPair } from './x509.js'

export interface Authority {
  readonly folder: string
  readonly cluster: string
  readonly certificate: x509.X509Certificate
  readonly privateKey: CryptoKey
}

export interface InitAuthorityOptions {
  readonly cluster: string
  /** How long the authority lasts, in days. */
  readonly days?: number
  readonly now?: Date
}

const defaultDays = 3650

/**
 * Makes the authority of a cluster in `folder`: its certificate, its key (mode 0600) and an empty revocation list.
 * @throws BackdoorsError KEYS_EXIST if the folder holds an authority, INVALID_ARGUMENT, SYSTEM_CALL_FAILED.
 */
export async function initAuthority(folder: string, options: InitAuthorityOptions): Promise<Authority> {
  const { cluster, days = defaultDays, now = new Date() } = options
  assertName(cluster, 'cluster')
  assertDays(days)
  const paths = authorityPaths(folder)
  if (await exists(paths.certificate)) {
    throw new BackdoorsError('KEYS_EXIST', `${folder} holds an authority already and it is not overwritten: choose another folder`, { path: paths.certificate })
  }
  await makeFolder(folder)
  const keys = await generateKeys()
  const certificate = await selfSign(cluster, keys, now, days)
  // The key goes first: if two run at once, only one can create it, and the other stops here.
  await createSecret(paths.privateKey, await exportPrivateKey(keys.privateKey))
  await replaceFile(paths.certificate, `${certificate.toString('pem')}\n`, 'public')
  const authority: Authority = { folder, cluster, certificate, privateKey: keys.privateKey }
  await publishRevocationList(authority, now)
  return authority
}

/**
 * Opens the authority that stands in `folder`.
 * @throws BackdoorsError KEYS_MISSING, CERTIFICATE_INVALID if its files do not belong together or it has expired.
 */
export async function openAuthority(folder: string, now: Date = new Date()): Promise<Authority> {
  const paths = authorityPaths(folder)
  const [pem, key] = await Promise.all([readText(paths.certificate), readSecret(paths.privateKey)])
  try {
    const certificate = new x509.X509Certificate(pem)
    const privateKey = await importPrivateKey(key)
    const cluster = certificate.subjectName.getField('O')[0]
    assertName(cluster, 'cluster')
    if (certificate.notAfter <= now) throw new Error(`it expired on ${certificate.notAfter.toISOString()}`)
    return { folder, cluster, certificate, privateKey }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new BackdoorsError('CERTIFICATE_INVALID', `the authority in ${folder} cannot be used: ${reason}`, { path: paths.certificate, cause: error })
  }
}

async function selfSign(cluster: string, keys: CryptoKeyPair, now: Date, days: number): Promise<x509.X509Certificate> {
  return await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerial(),
    name: [{ O: [cluster] }, { CN: [`${cluster} authority`] }],
    notBefore: new Date(now.getTime() - backdatingMs),
    notAfter: new Date(now.getTime() + days * dayMs),
    keys,
    signingAlgorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  })
}

/** @throws BackdoorsError INVALID_ARGUMENT */
export function assertDays(days: number): void {
  if (Number.isFinite(days) && days > 0 && days <= 36_500) return
  throw new BackdoorsError('INVALID_ARGUMENT', `a certificate cannot last ${days} days: choose more than 0 and at most 36500`, { field: 'days' })
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw asBackdoorsError(error, 'SYSTEM_CALL_FAILED', `stat of ${path}`, { path, call: 'stat' })
  }
}
