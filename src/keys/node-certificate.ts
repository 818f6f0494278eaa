import type { X509Certificate } from 'node:crypto'
import { isNodeName } from './node-name.js'

/**
 * The node that a certificate names: its one common name, which has to stand among its DNS names as well,
 * letter by letter. Undefined if it names no node that way.
 */
export function nodeNameOf(certificate: X509Certificate): string | undefined {
  // Typed as always there, but undefined where the subject is empty.
  const subject = certificate.subject as string | undefined
  const [commonName, ...others] = (subject ?? '').split('\n').filter((line) => line.startsWith('CN='))
  const name = commonName?.slice('CN='.length)
  if (others.length > 0 || !isNodeName(name)) return undefined
  const match = certificate.checkHost(name, { subject: 'never', wildcards: false, partialWildcards: false })
  return match === name ? name : undefined
}
