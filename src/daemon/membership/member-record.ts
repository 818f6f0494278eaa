/** What a node says of itself in etcd, and how others read it. */
import { z } from 'zod'
import { BackdoorsError } from '../../errors.js'
import { nodeName, type DaemonConfig, type PeerConfig } from '../config.js'
import type { EtcdConfig } from './membership-config.js'

/** No record that is meant is longer, in bytes. */
const maxRecordBytes = 16 << 10

/**
 * The value of a node's key, in JSON. `left` is the marker of a node that has left in order; it has nothing else to say.
 * Strict: whoever can write into etcd could write anything.
 */
const recordSchema = z.union([
  z.strictObject({ left: z.literal(true) }),
  z.strictObject({
    /** verbs: where its daemon listens. */
    host: z.string().regex(/^[A-Za-z0-9._:%-]{1,253}$/, 'is no host name and no address').optional(),
    port: z.number().int().min(1).max(65_535).optional(),
    /** shm: its region on the machine that all nodes are on. */
    region: z.string().max(4096).regex(/^\/[^\0]*$/, 'is no absolute path').optional(),
    /** Machines whose whole memory it lends, and which are watched through it. */
    hosts: z.array(z.strictObject({ name: nodeName, owner: z.number().int().min(0).max(0xffff_fffe).default(0) })).max(64).default([]),
  }),
])

export type MemberRecord = z.output<typeof recordSchema>

/** @returns the node that `key` is of; undefined where it is no key of a node */
export function nodeOfKey(key: string, prefix: string): string | undefined {
  const name = key.startsWith(prefix) ? key.slice(prefix.length) : ''
  return nodeName.safeParse(name).success ? name : undefined
}

/**
 * @param key for the error
 * @throws BackdoorsError MEMBER_INVALID
 */
export function parseRecord(value: Uint8Array, key: string): MemberRecord {
  const invalid = (why: string): BackdoorsError => new BackdoorsError('MEMBER_INVALID', `What stands in etcd under ${key} is no record of a node: ${why}`, { path: key })
  if (value.length > maxRecordBytes) throw invalid(`it has ${value.length} bytes`)
  let json: unknown
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(value))
  } catch (error) {
    throw invalid((error as Error).message)
  }
  const parsed = recordSchema.safeParse(json)
  if (parsed.success) return parsed.data
  throw invalid(z.prettifyError(parsed.error).slice(0, 300))
}

/**
 * The peers that a record stands for: the node, and the machines that it lends.
 * @throws BackdoorsError MEMBER_INVALID where this node could not reach it
 */
export function peersOf(name: string, record: MemberRecord, { node, fabric }: DaemonConfig, key: string): readonly PeerConfig[] {
  if ('left' in record) return []
  const { host, port, region, hosts } = record
  const missing = fabric === 'shm' ? region === undefined : host === undefined || port === undefined
  if (missing) throw new BackdoorsError('MEMBER_INVALID', `Node ${name} says in etcd under ${key} no ${fabric === 'shm' ? 'region' : 'host and port'}, which peers on ${fabric} need.`, { peer: name, path: key })
  if (fabric === 'shm') return [{ name, region: region, owner: 0 }]
  const lent = hosts.filter((each) => each.name !== node).map((each): PeerConfig => ({ name: each.name, through: name, owner: each.owner }))
  return [{ name, host: host, port: port, owner: 0 }, ...lent]
}

/** What this node says of itself. */
export function ownRecord({ advertise }: EtcdConfig, { fabric, listen, region, hosts }: DaemonConfig): Uint8Array {
  const address = fabric === 'shm' ? { region: advertise?.region ?? region.path } : { host: advertise?.host ?? listen?.host, port: advertise?.port ?? listen?.port }
  return Buffer.from(JSON.stringify({ ...address, ...(hosts.length === 0 ? {} : { hosts: hosts.map(({ name, owner }) => ({ name, owner })) }) }))
}

export const leftRecord: Uint8Array = Buffer.from(JSON.stringify({ left: true }))
