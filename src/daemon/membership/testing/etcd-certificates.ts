/** An authority, and one certificate of it for 127.0.0.1 that serves etcd and its clients alike. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { backdatingMs, dayMs, exportPrivateKey, generateKeys, newSerial, signingAlgorithm, x509 } from '../../../keys/x509.js'

export interface EtcdCertificates {
  readonly folder: string
  readonly ca: string
  readonly cert: string
  readonly key: string
}

export async function issueCertificates(folder: string): Promise<EtcdCertificates> {
  const times = { notBefore: new Date(Date.now() - backdatingMs), notAfter: new Date(Date.now() + dayMs) }
  const [caKeys, keys] = [await generateKeys(), await generateKeys()]
  const authority = await x509.X509CertificateGenerator.createSelfSigned({
    name: 'CN=etcd of a test', keys: caKeys, serialNumber: newSerial(), signingAlgorithm, ...times,
    extensions: [new x509.BasicConstraintsExtension(true, 0, true), new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true)],
  })
  const certificate = await x509.X509CertificateGenerator.create({
    subject: 'CN=etcd', issuer: authority.subject, publicKey: keys.publicKey, signingKey: caKeys.privateKey, serialNumber: newSerial(), signingAlgorithm, ...times,
    extensions: [
      new x509.SubjectAlternativeNameExtension([{ type: 'ip', value: '127.0.0.1' }]),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
    ],
  })
  const write = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text, { mode: 0o600 })
    return join(folder, name)
  }
  return { folder, ca: write('ca.pem', authority.toString('pem')), cert: write('cert.pem', certificate.toString('pem')), key: write('key.pem', await exportPrivateKey(keys.privateKey)) }
}
