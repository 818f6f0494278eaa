/** Where the files of an authority and of a node stand, and how they are read and replaced. */
import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { randomBytes } from 'node:crypto'
import { dirname, join } from 'node:path'
import { BackdoorsError } from '../errors.js'

/** The authority's folder: kept by the operator, not on the nodes. */
export interface AuthorityPaths {
  readonly certificate: string
  readonly privateKey: string
  readonly revocationList: string
  /** One certificate per serial number that was ever issued. */
  readonly issued: string
  /** One file per revoked serial number; the revocation list is made from them. */
  readonly revoked: string
  /** One folder per node, ready to be copied to it. */
  readonly nodes: string
}

/** A node's folder: all it needs to prove who it is and to check others. */
export interface NodePaths {
  readonly authority: string
  readonly certificate: string
  readonly privateKey: string
  readonly revocationList: string
}

export function authorityPaths(folder: string): AuthorityPaths {
  return {
    certificate: join(folder, 'authority.pem'),
    privateKey: join(folder, 'authority.key'),
    revocationList: join(folder, 'crl.pem'),
    issued: join(folder, 'issued'),
    revoked: join(folder, 'revoked'),
    nodes: join(folder, 'nodes'),
  }
}

export function nodePaths(folder: string): NodePaths {
  return {
    authority: join(folder, 'authority.pem'),
    certificate: join(folder, 'node.pem'),
    privateKey: join(folder, 'node.key'),
    revocationList: join(folder, 'crl.pem'),
  }
}

const secretMode = 0o600
const publicMode = 0o644

export async function makeFolder(path: string): Promise<void> {
  await failing(path, 'mkdir', mkdir(path, { recursive: true, mode: 0o700 }))
}

/** @throws BackdoorsError KEYS_EXIST if the file is there: a key is never overwritten. */
export async function createSecret(path: string, text: string): Promise<void> {
  await writeNew(path, text, secretMode)
}

/** Replaces the file in one step, so that a reader finds the old text or the new one, whole. */
export async function replaceFile(path: string, text: string, secrecy: 'secret' | 'public'): Promise<void> {
  const temporary = join(dirname(path), `.${randomBytes(8).toString('hex')}.tmp`)
  try {
    await writeNew(temporary, text, secrecy === 'secret' ? secretMode : publicMode)
    await failing(path, 'rename', rename(temporary, path))
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}

async function writeNew(path: string, text: string, mode: number): Promise<void> {
  const file = await failing(path, 'open', open(path, 'wx', mode))
  try {
    await failing(path, 'write', file.writeFile(text))
    await failing(path, 'fsync', file.sync())
  } finally {
    await file.close()
  }
}

/** @throws BackdoorsError KEYS_MISSING if there is no such file. */
export async function readText(path: string): Promise<string> {
  return await failing(path, 'read', readFile(path, 'utf8'))
}

export async function readTextIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw asFileError(path, 'read', error)
  }
}

/**
 * Reads a private key.
 * @throws BackdoorsError CERTIFICATE_INVALID if every user of the machine may read it, KEYS_MISSING.
 */
export async function readSecret(path: string): Promise<string> {
  const { mode } = await failing(path, 'stat', stat(path))
  if ((mode & 0o007) !== 0) {
    throw new BackdoorsError('CERTIFICATE_INVALID', `the private key ${path} is open to every user of this machine: chmod 600 it, and issue it again if others may have read it`, { path })
  }
  return await readText(path)
}

/** Names in a folder, sorted; none if there is no such folder. */
export async function listFolder(path: string): Promise<string[]> {
  try {
    return (await readdir(path)).filter((name) => !name.startsWith('.')).sort()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw asFileError(path, 'readdir', error)
  }
}

async function failing<T>(path: string, call: string, work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    throw asFileError(path, call, error)
  }
}

function asFileError(path: string, call: string, cause: unknown): BackdoorsError {
  const { code, errno, message } = cause as NodeJS.ErrnoException
  const details = { path, call, cause, ...(errno === undefined ? {} : { errno: Math.abs(errno) }), ...(code === undefined ? {} : { errnoName: code }) }
  if (code === 'EEXIST') return new BackdoorsError('KEYS_EXIST', `${path} exists and is not overwritten: choose another folder, or move the old keys away`, details)
  if (code === 'ENOENT') return new BackdoorsError('KEYS_MISSING', `${path} is missing: make it with \`backdoors keys init\` or \`backdoors keys issue\`, or name another folder`, details)
  return new BackdoorsError('SYSTEM_CALL_FAILED', `${call} of ${path}: ${message}`, details)
}
