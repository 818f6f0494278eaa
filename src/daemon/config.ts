/** The daemon's configuration file: YAML (and so JSON too), validated whole before anything is done. */
import { readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { parseDocument } from 'yaml'
import { z } from 'zod'
import { asBackdoorsError, BackdoorsError } from '../errors.js'
import { crc32c } from '../native/crc32c.js'
import { conditionsSchema, flappingSchema, sensorsSchema } from './watching/detector-config.js'
import { defaultGeometry, maxBoxes, maxRegionBytes, planRegion } from '../region/layout.js'
import { addressesSchema, faultInAddresses } from './addresses/addresses-config.js'
import { command, fenceSchema, strangerIn, timeoutMs } from './fencing/fence-config.js'
import { findMembershipFault, membershipSchema, resolveMembership } from './membership/membership-config.js'

export const nodeName = z.string().regex(/^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/, 'must be a node name: lower-case letters, digits, dots and dashes, 1 to 63 characters')
const port = z.number().int().min(0).max(65535)

/** Microseconds between two samples. */
const intervalUs = z.number().min(20).max(10_000_000)

const userNumber = z.number().int().min(0).max(0xffff_fffe)

const peer = z.strictObject({
  name: nodeName,
  /** shm: path of the peer's region on this machine. */
  region: z.string().optional(),
  /** verbs: where the peer's daemon listens. */
  host: z.string().optional(),
  port: port.optional(),
  /** verbs: the peer that lends this machine's whole memory; it is watched and recovered through that one. */
  through: nodeName.optional(),
  /** With `through`: the user that the host's daemon runs as. */
  owner: userNumber.default(0),
  /** Between two samples of this peer, in microseconds. Default: `watch.intervalUs`. */
  intervalUs: intervalUs.exactOptional(),
})

const peerList = z.array(peer).max(1024)
const peersFile = z.strictObject({ peers: peerList })

const byteCount = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)

/** A machine whose RAM this daemon reaches by itself, and lends whole. */
const host = z.strictObject({
  name: nodeName,
  /** A DAX device, or the RAM file of a virtual machine. */
  memory: z.string().min(1),
  /** Where physical addresses lie in it, in bytes; what is not named is a hole. Default: physical address 0 at offset 0, without a hole. */
  map: z.array(z.strictObject({ physical: byteCount, length: byteCount.min(1), offset: byteCount })).min(1).max(64).optional(),
  /** Peers may write all of its memory; by default only the control page of its region takes compare-and-swap. */
  writable: z.boolean().default(false),
  /** The user that the host's daemon runs as: a region of anybody else there is none. */
  owner: userNumber.default(0),
})

export const configSchema = z.strictObject({
  node: nodeName,
  cluster: nodeName.default('default'),
  region: z.strictObject({
    /** Default: `/dev/shm/backdoors-NODE`. */
    path: z.string().optional(),
    boxes: z.number().int().min(2).max(maxBoxes).default(defaultGeometry.boxCount),
    sensorsPerBox: z.number().int().min(1).max(4096).default(defaultGeometry.sensorsPerBox),
    sessionsPerBox: z.number().int().min(1).max(1 << 24).default(defaultGeometry.sessionsPerBox),
    /** Bytes for session versions in each box; each session takes two slots of its size. */
    heapBytes: z.number().int().min(4096).max(maxRegionBytes).default(defaultGeometry.heapBytes),
  }).prefault({}),
  fabric: z.enum(['shm', 'verbs']).default('shm'),
  verbs: z.strictObject({
    device: z.string().optional(),
    port: z.number().int().min(1).max(255).optional(),
    gidIndex: z.number().int().min(0).optional(),
    /** The own deadline of every read, beside the NIC's. */
    timeoutMs: z.number().min(1).max(600_000).default(2000),
    /** See `QueuePairSettings` for units and defaults. A time-out must be much longer than the slowest peer takes to answer. */
    queuePairs: z.strictObject({
      timeout: z.number().int().min(1).max(31).exactOptional(),
      retryCount: z.number().int().min(0).max(7).exactOptional(),
      rnrRetry: z.number().int().min(0).max(7).exactOptional(),
      minRnrTimer: z.number().int().min(0).max(31).exactOptional(),
      depth: z.number().int().min(1).max(65_536).exactOptional(),
      mtu: z.union([256, 512, 1024, 2048, 4096].map((bytes) => z.literal(bytes))).exactOptional(),
      maxRdAtomic: z.number().int().min(1).max(255).exactOptional(),
      trafficClass: z.number().int().min(0).max(255).exactOptional(),
      serviceLevel: z.number().int().min(0).max(15).exactOptional(),
      hopLimit: z.number().int().min(1).max(255).exactOptional(),
      pkeyIndex: z.number().int().min(0).max(65_535).exactOptional(),
    }).prefault({}),
  }).prefault({}),
  listen: z.strictObject({ host: z.string(), port }).optional(),
  /** Folder of this node's certificate and key (`backdoors keys issue`). */
  keys: z.string().optional(),
  peers: peerList.default([]),
  /** Where peers come and go while the daemon runs: a file, or etcd; see docs/membership.md. */
  membership: membershipSchema.optional(),
  /** verbs: machines whose whole memory is lent. */
  hosts: z.array(host).max(64).default([]),
  watch: z.strictObject({
    /** How many nodes each node watches. */
    peers: z.number().int().min(0).max(64).default(2),
    intervalUs: intervalUs.default(1000),
    osDeadlineMs: z.number().min(1).max(60_000).default(50),
    unreachableAfterMs: z.number().min(1).max(600_000).default(500),
    refreshMs: z.number().min(1).max(60_000).default(100),
    flapping: flappingSchema.prefault({}),
    conditions: conditionsSchema.prefault({}),
    /** The processor that the sampler's thread keeps to. Default: any. */
    cpu: z.number().int().min(0).max(1023).exactOptional(),
    /** Real-time priority for the sampler's thread. With intervals below 50 µs it never sleeps: give it a processor of its own then. */
    realtime: z.boolean().default(false),
  }).prefault({}),
  sensors: sensorsSchema.prefault({}),
  recovery: z.strictObject({
    enabled: z.boolean().default(true),
    /** Fence a node, too, that nobody reaches: only when another node agrees, or where there is no other. */
    fenceUnreachable: z.boolean().default(false),
    /** Fencing beyond the fence word: run before the claim; where required, its failure ends the recovery. */
    fence: fenceSchema.optional(),
    /** Another's recovery that has not moved for so long is taken over, though its recoverer seems to be well. */
    takeOverAfterMs: z.number().min(100).max(3_600_000).default(10_000),
    /** Virtual IPs: taken when their node has been recovered here, before the announce command is run. */
    addresses: addressesSchema,
    /** Is it asked first whether another machine answers for them? One that does keeps its address. */
    probeAddresses: z.boolean().default(true),
    /** Clients' connections of a host whose whole memory is lent: those to its virtual IPs go on here. Needs CAP_NET_ADMIN and CAP_NET_RAW. */
    connections: z.strictObject({ enabled: z.boolean().default(true) }).prefault({}),
    announce: z.strictObject({ command, timeoutMs: timeoutMs.default(30_000) }).optional(),
  }).prefault({}),
  metrics: z.strictObject({ host: z.string().default('127.0.0.1'), port }).optional(),
  status: z.strictObject({
    /** A page for people, off by default. It shows names of nodes, servers and sensors, and no session. */
    http: z.strictObject({ host: z.string().min(1).default('127.0.0.1'), port }).optional(),
  }).prefault({}),
  log: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('warn'),
  /** For demonstrations only: switches one safeguard off. */
  canary: z.enum(['fence', 'crc', 'claim']).optional(),
})

export type DaemonConfig = z.output<typeof configSchema> & { readonly region: { readonly path: string } }
export type DaemonConfigInput = z.input<typeof configSchema>
export type PeerConfig = DaemonConfig['peers'][number]
export type HostConfig = DaemonConfig['hosts'][number]

const invalid = (message: string, field?: string, path?: string): BackdoorsError =>
  new BackdoorsError('CONFIG_INVALID', `${path ? `${path}: ` : ''}${message}`, { ...(field ? { field } : {}), ...(path ? { path } : {}) })

const fieldOf = (path: readonly PropertyKey[]): string =>
  path.reduce<string>((text, key) => (typeof key === 'number' ? `${text}[${key}]` : text ? `${text}.${String(key)}` : String(key)), '')

/**
 * Checks a configuration and fills in its defaults.
 * @throws BackdoorsError CONFIG_INVALID with `field`, the path of the bad key
 */
export function parseConfig(input: unknown, path?: string): DaemonConfig {
  const data = parseWith(configSchema, input, 'the configuration', path)
  const config = { ...data, region: { ...data.region, path: data.region.path ?? `/dev/shm/backdoors-${data.node}` } }
  checkRegion(config, path)
  checkPeers(config, path)
  checkHosts(config, path)
  checkRecovery(config, path)
  const fault = findMembershipFault(config)
  if (fault) throw invalid(fault.message, fault.field, path)
  return config
}

/**
 * Checks a list of peers that stands in a file of its own, as a list or under `peers`, by the same rules as `peers` in the configuration.
 * @param isMeant entries for which it is false are passed over
 * @throws BackdoorsError CONFIG_INVALID with `path`, and `field`, e.g. `peers[2].name`, counted without what was passed over
 */
export function parsePeers(input: unknown, config: DaemonConfig, path: string, isMeant: (peer: PeerConfig) => boolean): readonly PeerConfig[] {
  const isList = Array.isArray(input) || typeof input !== 'object' || input === null
  const peers = parseWith(peersFile, isList ? { peers: input } : input, 'the list of peers', path).peers.filter(isMeant)
  checkPeers({ ...config, peers }, path)
  return peers
}

function parseWith<T>(schema: z.ZodType<T>, input: unknown, what: string, path?: string): T {
  const parsed = schema.safeParse(input)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const unknown = issue?.code === 'unrecognized_keys' ? issue.keys[0] : undefined
  const field = fieldOf([...(issue?.path ?? []), ...(unknown === undefined ? [] : [unknown])])
  const why = unknown === undefined ? (issue?.message ?? 'is invalid') : 'is no key of this configuration'
  throw invalid(field ? `${field}: ${why}` : `${what}: ${why}`, field, path)
}

function checkRegion({ region: { boxes, ...sizes } }: DaemonConfig, path?: string): void {
  try {
    planRegion({ boxCount: boxes, ...sizes })
  } catch (error) {
    throw invalid(`region: ${error instanceof Error ? error.message : String(error)}`, 'region.heapBytes', path)
  }
}

function checkPeers(config: DaemonConfig, path?: string): void {
  const numbers = new Map([[nodeNumber(config.node), config.node]])
  for (const [i, { name, region, host, port: peerPort, through }] of config.peers.entries()) {
    const field = `peers[${i}]`
    if (name === config.node) throw invalid(`${field}.name is this node itself`, `${field}.name`, path)
    const other = numbers.get(nodeNumber(name))
    if (other === name) throw invalid(`${field}.name ${name} stands twice`, `${field}.name`, path)
    if (other !== undefined) throw invalid(`${field}.name ${name} and ${other} have the same number in claim words; rename one`, `${field}.name`, path)
    numbers.set(nodeNumber(name), name)
    if (config.fabric === 'shm' && region === undefined) throw invalid(`${field}.region is needed on shm: the path of the peer's region`, `${field}.region`, path)
    if (through !== undefined) checkThrough(config, through, `${field}.through`, path)
    else if (config.fabric === 'verbs' && (host === undefined || peerPort === undefined)) throw invalid(`${field}.host and .port are needed on verbs: where the peer's daemon listens`, `${field}.host`, path)
  }
  if (config.fabric === 'verbs' && config.listen === undefined) throw invalid('listen is needed on verbs: where peers enroll', 'listen', path)
  if (config.fabric === 'verbs' && config.keys === undefined) throw invalid('keys is needed on verbs: the folder that "backdoors keys issue" filled', 'keys', path)
}

function checkThrough({ fabric, peers }: DaemonConfig, through: string, field: string, path?: string): void {
  if (fabric !== 'verbs') throw invalid(`${field} is for verbs: on shm nobody lends a whole machine`, field, path)
  const lender = peers.find(({ name }) => name === through)
  if (lender === undefined || lender.through !== undefined) throw invalid(`${field} ${through} is no peer with an address of its own`, field, path)
}

function checkHosts({ fabric, hosts }: DaemonConfig, path?: string): void {
  if (hosts.length > 0 && fabric !== 'verbs') throw invalid('hosts are lent on verbs only', 'hosts', path)
  for (const [i, { name }] of hosts.entries()) {
    if (hosts.findIndex((other) => other.name === name) < i) throw invalid(`hosts[${i}].name ${name} stands twice`, `hosts[${i}].name`, path)
  }
}

function checkRecovery({ node, peers, membership, recovery: { fence, fenceUnreachable, addresses } }: DaemonConfig, path?: string): void {
  if (fenceUnreachable && fence === undefined) throw invalid('recovery.fenceUnreachable needs recovery.fence: what does it', 'recovery.fenceUnreachable', path)
  // Who the members are may become known later.
  const isPeer = (name: string): boolean => membership !== undefined || peers.some((peer) => peer.name === name)
  const stranger = fence && strangerIn(fence, isPeer)
  if (stranger !== undefined) throw invalid(`${stranger} is no peer`, stranger, path)
  const fault = faultInAddresses(addresses, (name) => name === node || isPeer(name))
  if (fault) throw invalid(`${fault.field}: ${fault.why}`, fault.field, path)
}

/** @throws BackdoorsError CONFIG_INVALID. Relative paths in the file are taken from the file's own folder. */
export function loadConfig(path: string): DaemonConfig {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw asBackdoorsError(error, 'CONFIG_INVALID', `Cannot read the configuration ${path}`, { path })
  }
  const document = parseDocument(text)
  const fault = document.errors[0]
  if (fault) throw invalid(fault.message, undefined, path)
  const config = parseConfig(document.toJS(), path)
  const from = (file: string): string => resolve(dirname(path), file)
  return {
    ...config,
    region: { ...config.region, path: from(config.region.path) },
    ...(config.keys === undefined ? {} : { keys: from(config.keys) }),
    ...(config.membership === undefined ? {} : { membership: resolveMembership(config.membership, from) }),
    hosts: config.hosts.map((each) => ({ ...each, memory: from(each.memory) })),
    peers: config.peers.map((peer) => (peer.region === undefined ? peer : { ...peer, region: from(peer.region) })),
  }
}

/** A node's number in claim words, 1 to 65535: from its name, so that nobody has to hand numbers out. */
export function nodeNumber(name: string): number {
  const bytes = new TextEncoder().encode(name)
  return (crc32c(bytes, 0, bytes.length, 0) % 0xffff) + 1
}
