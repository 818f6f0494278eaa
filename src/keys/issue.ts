/** Issuing and revoking the certificates of a cluster's nodes. */
import { X509Certificate } from 'node:crypto'
import { join } from 'node:path'
import { BackdoorsError } from '../errors.js'
import { assertDays, openAuthority } from './authority.js'
import type { Authority } from './authority.js'
import { authorityPaths, listFolder, makeFolder, nodePaths, readText, replaceFile } from './folder.js'
import { nodeNameOf } from './node-certificate.js'
import { assertName } from './node-name.js'
import { publishRevocationList } from './revocation-list.js'
import { backdatingMs, dayMs, exportPrivateKey, generateKeys, newSerial, signingAlgorithm, x509 } from './x509.js'
import type { CryptoKey } from './x509.js'

export interface IssueOptions {
  /** How long the certificate lasts, in days; never longer than the authority. */
  readonly days?: number
  readonly now?: Date
}

export interface IssuedNode {
  readonly node: string
  readonly cluster: string
  /** 32 hexadecimal digits. */
  readonly serial: string
  readonly notAfter: Date
  /** The folder to copy to the node: its key and certificate, the authority's certificate, the revocation list. */
  readonly folder: string
}

const defaultDays = 365

/**
 * Issues a certificate and a new key to a node. For a name that has one already this is its rotation: the new
 * one replaces it in the node's folder, and the old one stays valid until it is revoked or expires.
 * @throws BackdoorsError INVALID_ARGUMENT, KEYS_MISSING, CERTIFICATE_INVALID, SYSTEM_CALL_FAILED.
 */
export async function issueNode(folder: string, node: string, options: IssueOptions = {}): Promise<IssuedNode> {
  const { days = defaultDays, now = new Date() } = options
  assertName(node, 'node')
  assertDays(days)
  const authority = await openAuthority(folder, now)
  const keys = await generateKeys()
  const certificate = await sign(authority, node, keys.publicKey, now, days)
  const pem = `${certificate.toString('pem')}\n`
  const paths = authorityPaths(folder)
  // The record goes first: a certificate that was handed out can then always be revoked by its name.
  await makeFolder(paths.issued)
  await replaceFile(join(paths.issued, `${certificate.serialNumber}.pem`), pem, 'public')
  const nodeFolder = join(paths.nodes, node)
  await makeFolder(nodeFolder)
  const files = nodePaths(nodeFolder)
  await replaceFile(files.privateKey, await exportPrivateKey(keys.privateKey), 'secret')
  await replaceFile(files.certificate, pem, 'public')
  await replaceFile(files.authority, await readText(paths.certificate), 'public')
  await publishRevocationList(authority, now)
  return { node, cluster: authority.cluster, serial: certificate.serialNumber, notAfter: certificate.notAfter, folder: nodeFolder }
}

async function sign(authority: Authority, node: string, publicKey: CryptoKey, now: Date, days: number): Promise<x509.X509Certificate> {
  const wanted = now.getTime() + days * dayMs
  return await x509.X509CertificateGenerator.create({
    serialNumber: newSerial(),
    issuer: authority.certificate.subjectName,
    subject: [{ O: [authority.cluster] }, { CN: [node] }],
    notBefore: new Date(now.getTime() - backdatingMs),
    notAfter: new Date(Math.min(wanted, authority.certificate.notAfter.getTime())),
    publicKey,
    signingKey: authority.privateKey,
    signingAlgorithm,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
      new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: node }]),
      await x509.SubjectKeyIdentifierExtension.create(publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(authority.certificate),
    ],
  })
}

export interface RevokeResult {
  /** Serial numbers revoked by this call or before it. */
  readonly serials: readonly string[]
  /** The list to bring to every node; it stands in each node's folder as well. */
  readonly revocationList: string
}

/**
 * Revokes every certificate that was issued to a node, or the one with a serial number. Idempotent.
 * @throws BackdoorsError KEYS_MISSING if none was issued, INVALID_ARGUMENT, CERTIFICATE_INVALID, SYSTEM_CALL_FAILED.
 */
export async function revokeNode(folder: string, nodeOrSerial: string, options: { readonly now?: Date } = {}): Promise<RevokeResult> {
  const { now = new Date() } = options
  const authority = await openAuthority(folder, now)
  const paths = authorityPaths(folder)
  const serials = await serialsOf(paths.issued, nodeOrSerial)
  if (serials.length === 0) {
    throw new BackdoorsError('KEYS_MISSING', `no certificate was issued to ${JSON.stringify(nodeOrSerial.slice(0, 80))} by the authority in ${folder}: give a node's name, or a serial number of 32 hexadecimal digits`, { path: paths.issued })
  }
  await makeFolder(paths.revoked)
  const known = new Set(await listFolder(paths.revoked))
  for (const serial of serials) {
    if (!known.has(serial)) await replaceFile(join(paths.revoked, serial), `${now.toISOString()}\n`, 'public')
  }
  await publishRevocationList(authority, now)
  return { serials, revocationList: paths.revocationList }
}

/** A name is looked for first: a node may be called by 32 hexadecimal digits. */
async function serialsOf(issued: string, nodeOrSerial: string): Promise<string[]> {
  const files = (await listFolder(issued)).filter((file) => file.endsWith('.pem'))
  const serials: string[] = []
  for (const file of files) {
    const certificate = new X509Certificate(await readText(join(issued, file)))
    if (nodeNameOf(certificate) === nodeOrSerial) serials.push(file.slice(0, -'.pem'.length))
  }
  if (serials.length > 0) return serials
  const wanted = nodeOrSerial.toLowerCase()
  return files.includes(`${wanted}.pem`) ? [wanted] : []
}
