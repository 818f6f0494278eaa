/** What a node proves itself with, in the form that TLS wants; replaceable without a stop. */
import { createHmac, X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import type { SecureContext } from 'node:tls'
import { asBackdoorsError, BackdoorsError } from '../../errors.js'
import { loadNodeKeys } from '../../keys/node-keys.js'
import type { NodeKeys } from '../../keys/node-keys.js'
import { splitPem } from '../../keys/pem.js'
import { x509 } from '../../keys/x509.js'

const knockLabel = 'backdoors knock 1'
const knockBytes = 16

/**
 * The server name that a client has to ask for. A TLS server shows its certificate before it has seen the
 * client's, so one that answers everybody tells its name to any stranger. This one shows it only to whoever
 * knows the authority's public key, which is on the nodes and nowhere else.
 */
export function knockFor(authorityDigest: Uint8Array, node: string): string {
  return createHmac('sha256', authorityDigest).update(`${knockLabel}\0${node}`).digest('hex').slice(0, 2 * knockBytes)
}

/**
 * One node's credentials, shared by its server and its connections.
 *
 * @example
 * const credentials = await Credentials.load('/etc/backdoors/keys')
 * process.on('SIGHUP', () => void credentials.reload('/etc/backdoors/keys').catch(report))
 */
export class Credentials {
  #keys: NodeKeys
  #context: SecureContext
  #revoked: ReadonlySet<string>
  readonly #listeners = new Set<() => void>()

  /** @throws BackdoorsError CERTIFICATE_INVALID */
  constructor(keys: NodeKeys) {
    this.#keys = keys
    this.#context = contextOf(keys)
    this.#revoked = revokedBy(keys)
  }

  /** @throws BackdoorsError KEYS_MISSING, CERTIFICATE_INVALID, SYSTEM_CALL_FAILED. */
  static async load(folder: string): Promise<Credentials> {
    return new Credentials(await loadNodeKeys(folder))
  }

  get node(): string {
    return this.#keys.node
  }

  /** Serial number and ends of validity, for status and warnings. */
  get keys(): NodeKeys {
    return this.#keys
  }

  get context(): SecureContext {
    return this.#context
  }

  /** The server names under which clients may ask for this node: one per authority. */
  get knocks(): readonly string[] {
    return this.#keys.authorityDigests.map((digest) => knockFor(digest, this.node))
  }

  /** The server name under which this node asks for `peer`. */
  knockOn(peer: string): string {
    const [first] = this.#keys.authorityDigests
    if (first === undefined) throw new BackdoorsError('CERTIFICATE_INVALID', `${this.node} trusts no authority`)
    return knockFor(first, peer)
  }

  /**
   * Uses other keys from now on. Handshakes that have begun end with the old ones; connections whose peer is
   * revoked by the new list are ended.
   * @throws BackdoorsError CERTIFICATE_INVALID; the old keys then stay in use.
   */
  replace(keys: NodeKeys): void {
    if (keys.node !== this.node) {
      throw new BackdoorsError('CERTIFICATE_INVALID', `the new certificate names ${keys.node}, but this node is ${this.node}: a node keeps its name while it runs`)
    }
    const context = contextOf(keys)
    const revoked = revokedBy(keys)
    this.#keys = keys
    this.#context = context
    this.#revoked = revoked
    for (const listener of [...this.#listeners]) listener()
  }

  /** Loads the folder again and uses what it holds. @throws as `load` and `replace`; the old keys then stay in use. */
  async reload(folder: string): Promise<void> {
    this.replace(await loadNodeKeys(folder))
  }

  /** Is a certificate (DER) on the revocation list? TLS asks this by itself at a handshake; this is for later. */
  isRevoked(certificate: Uint8Array): boolean {
    const { issuer, serialNumber } = new x509.X509Certificate(Buffer.from(certificate))
    return this.#revoked.has(revocationKey(issuer, serialNumber))
  }

  /** Calls `listener` after each replacement; the result takes it off again. */
  onReplaced(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }
}

function contextOf(keys: NodeKeys): SecureContext {
  try {
    return createSecureContext({
      // Only the cluster's own authority counts; the machine's list of public ones is not looked at.
      ca: splitPem(keys.authority, 'CERTIFICATE'),
      cert: keys.certificate,
      key: keys.privateKey,
      ...(keys.revocationList === undefined ? {} : { crl: splitPem(keys.revocationList, 'X509 CRL') }),
      minVersion: 'TLSv1.3',
      maxVersion: 'TLSv1.3',
    })
  } catch (error) {
    throw asBackdoorsError(error, 'CERTIFICATE_INVALID', `the certificate of ${keys.node} cannot be used`)
  }
}

function revokedBy(keys: NodeKeys): Set<string> {
  const lists = splitPem(keys.revocationList ?? '', 'X509 CRL').map((pem) => new x509.X509Crl(pem))
  return new Set(lists.flatMap((list) => list.entries.map((entry) => revocationKey(list.issuer, entry.serialNumber))))
}

/** Serial numbers are compared without leading zeros, which hexadecimal forms may or may not have. */
function revocationKey(issuer: string, serialNumber: string): string {
  return `${serialNumber.toLowerCase().replace(/^0+/, '')} ${issuer}`
}

/** A certificate as Node's TLS gives it, parsed. */
export function parseCertificate(raw: Uint8Array | undefined): X509Certificate | undefined {
  if (raw === undefined || raw.length === 0) return undefined
  try {
    return new X509Certificate(raw)
  } catch {
    return undefined
  }
}
