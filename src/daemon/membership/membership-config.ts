/** The configuration's key `membership`: from where a daemon learns who the other nodes are, while it runs. */
import { isAbsolute, resolve } from 'node:path'
import { z } from 'zod'

const endpoint = z.string().max(512).regex(/^https?:\/\/[^/@?#]+\/?$/, 'must be http://HOST:PORT or https://HOST:PORT')

export const etcdSchema = z.strictObject({
  /** Members of the etcd cluster; one that does not answer is passed over for the next. */
  endpoints: z.array(endpoint).min(1).max(16),
  /** Nodes are found under `PREFIX/CLUSTER/NODE`. */
  prefix: z.string().regex(/^(\/[A-Za-z0-9._-]+){1,8}$/, 'must be a path such as /backdoors').default('/backdoors'),
  /** How long after this node's last word etcd forgets it. Its peers do not: see `EtcdMembership`. */
  leaseSeconds: z.number().int().min(2).max(3600).default(15),
  /** Files in PEM; read anew for each connection, so that they may be rotated. */
  tls: z.strictObject({ ca: z.string().min(1).optional(), cert: z.string().min(1).optional(), key: z.string().min(1).optional() }).optional(),
  /** What peers are told of this node. Default: `listen` on verbs, `region.path` on shm. */
  advertise: z.strictObject({
    host: z.string().min(1).max(253).optional(),
    port: z.number().int().min(1).max(65_535).optional(),
    region: z.string().min(1).max(4096).optional(),
  }).optional(),
})

export const membershipSchema = z.strictObject({
  /** A list of peers, as under `peers`, in YAML or JSON; read anew whenever it changes. */
  file: z.string().min(1).optional(),
  etcd: etcdSchema.optional(),
})

export type MembershipConfig = z.output<typeof membershipSchema>
export type EtcdConfig = z.output<typeof etcdSchema>

/** What the checks below need to know of the rest of the configuration. */
interface Surroundings {
  readonly fabric: 'shm' | 'verbs'
  readonly membership?: MembershipConfig | undefined
  readonly peers: readonly unknown[]
  readonly listen?: { readonly host: string; readonly port: number } | undefined
}

/** Where a service listens on all addresses, that is nothing to tell others. */
const wildcards = new Set(['', '0.0.0.0', '::', '[::]'])

/** @returns what is wrong, and at which key; undefined where nothing is */
export function findMembershipFault({ fabric, membership, peers, listen }: Surroundings): { field: string; message: string } | undefined {
  if (membership === undefined) return undefined
  const { file, etcd } = membership
  if ((file === undefined) === (etcd === undefined)) return { field: 'membership', message: 'membership names a file or etcd, and only one of them' }
  if (file !== undefined && peers.length > 0) return { field: 'peers', message: 'peers stand in the file that membership.file names, not here' }
  const { tls, advertise, endpoints = [] } = etcd ?? {}
  if ((tls?.cert === undefined) !== (tls?.key === undefined)) return { field: 'membership.etcd.tls', message: 'membership.etcd.tls.cert and .key go together' }
  if (tls !== undefined && !endpoints.every((each) => each.startsWith('https:'))) return { field: 'membership.etcd.endpoints', message: 'membership.etcd.endpoints must all be https where membership.etcd.tls is given' }
  if (etcd === undefined) return undefined
  if (fabric === 'shm') return advertise?.host === undefined && advertise?.port === undefined ? undefined : { field: 'membership.etcd.advertise', message: 'membership.etcd.advertise takes a region on shm, no host and port' }
  const { host = listen?.host, port = listen?.port, region } = advertise ?? {}
  if (region !== undefined) return { field: 'membership.etcd.advertise.region', message: 'membership.etcd.advertise takes host and port on verbs, no region' }
  if (host === undefined || wildcards.has(host) || !port) return { field: 'membership.etcd.advertise', message: 'membership.etcd.advertise is needed: the host and port at which peers reach this node, as listen does not say' }
  return undefined
}

/** Relative paths are taken from the configuration's folder. */
export function resolveMembership({ file, etcd }: MembershipConfig, from: (path: string) => string): MembershipConfig {
  const { tls } = etcd ?? {}
  const files = Object.fromEntries(Object.entries(tls ?? {}).map(([name, path]) => [name, path === undefined ? undefined : from(path)]))
  return {
    ...(file === undefined ? {} : { file: from(file) }),
    ...(etcd === undefined ? {} : { etcd: { ...etcd, ...(tls === undefined ? {} : { tls: files }) } }),
  }
}

/** A path as it stands in a list of peers that is a file of its own. */
export const fromFolder = (folder: string, path: string): string => (isAbsolute(path) ? path : resolve(folder, path))
