/** Players for the tests of enrollment: a cluster's keys, a lending node, and what peers say. */
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'node:tls'
import type { ConnectionOptions, TLSSocket } from 'node:tls'
import { vi } from 'vitest'
import { initAuthority, issueNode, loadNodeKeys } from '../../../keys/index.js'
import type { NodeKeys } from '../../../keys/index.js'
import type { EndpointPair, QueuePairEndpoint } from '../../lending.js'
import type { EnrollOptions } from '../client.js'
import { Credentials } from '../credentials.js'
import { encodeFrame, FrameDecoder } from '../framing.js'
import type { Hello, Welcome } from '../messages.js'
import { EnrollmentServer } from '../server.js'
import type { EnrollmentServerOptions } from '../server.js'

export const cluster = 'shop'
/** Longer than any machine that runs the tests is slow; nothing that passes waits for it. In milliseconds. */
export const patienceMs = 60_000

/** Waits until `check` throws no more. */
export async function eventually(check: () => void): Promise<void> {
  await vi.waitFor(check, { timeout: patienceMs, interval: 2 })
}

/** An authority in a temporary folder. */
export class TestAuthority {
  readonly folder: string

  private constructor(folder: string) {
    this.folder = folder
  }

  static async make(name = cluster): Promise<TestAuthority> {
    const folder = await mkdtemp(join(tmpdir(), 'backdoors-enrollment-'))
    await initAuthority(folder, { cluster: name })
    return new TestAuthority(folder)
  }

  async keys(node: string, options: { days?: number; now?: Date } = {}): Promise<NodeKeys> {
    const issued = await issueNode(this.folder, node, options)
    return await loadNodeKeys(issued.folder, options.now)
  }

  /** What stands in the node's folder now, its revocation list included. */
  async reload(node: string): Promise<NodeKeys> {
    return await loadNodeKeys(join(this.folder, 'nodes', node))
  }

  async credentials(node: string): Promise<Credentials> {
    return new Credentials(await this.keys(node))
  }

  async remove(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true })
  }
}

export function endpoint(qpn: number): QueuePairEndpoint {
  return { qpn, psn: 0x123456, gid: '00000000000000000000ffff0a000001', lid: 0, mtu: 1024, maxRdAtomic: 16, maxDestRdAtomic: 16 }
}

export const endpoints: EndpointPair = { sampling: endpoint(17), recovery: endpoint(18) }
export const hello: Hello = { fabric: 'verbs', endpoints }
export const welcome: Welcome = {
  fabric: 'verbs',
  incarnation: 0xfeed_beef_0000_0001n,
  layoutVersion: 1,
  regionLength: 16_777_216,
  windows: [
    { offset: 0, length: 16_777_216, address: 0x7f00_1234_5000n, rkey: 0x1a2b_3c4d, access: 'read' },
    { offset: 4096, length: 4096, address: 0x7f00_1234_6000n, rkey: 0x1a2b_3c4e, access: 'atomic' },
  ],
  endpoints: { sampling: endpoint(33), recovery: endpoint(34) },
}

export interface LoggedLine {
  readonly level: 'info' | 'warn'
  readonly code?: string
  readonly peer?: string
  readonly unlogged?: number
  readonly message: string
}

/** A lending node on loopback that remembers what it logged. */
export class TestServer {
  readonly server: EnrollmentServer
  readonly lines: LoggedLine[] = []
  readonly credentials: Credentials
  peers: Set<string>
  address = { host: '127.0.0.1', port: 0 }

  constructor(credentials: Credentials, peers: readonly string[], options: Partial<EnrollmentServerOptions> = {}) {
    this.credentials = credentials
    this.peers = new Set(peers)
    const log = (level: 'info' | 'warn') => (fields: object, message: string) => void this.lines.push({ level, ...fields, message })
    this.server = new EnrollmentServer({
      listen: { host: '127.0.0.1', port: 0 },
      credentials,
      cluster,
      peers: () => this.peers,
      lend: () => Promise.resolve(welcome),
      logger: { info: log('info'), warn: log('warn') } as EnrollmentServerOptions['logger'],
      ...options,
      limits: { handshakeTimeoutMs: patienceMs, ...options.limits },
    })
  }

  async start(): Promise<this> {
    this.address = await this.server.start()
    return this
  }

  /** Codes of the refusals logged so far. */
  get refusals(): (string | undefined)[] {
    return this.lines.filter((line) => line.level === 'warn').map((line) => line.code)
  }

  /** What a peer passes to `enroll`. */
  toEnroll(credentials: Credentials, options: Partial<EnrollOptions> = {}): EnrollOptions {
    return { address: this.address, peer: this.credentials.node, credentials, cluster, hello, timeoutMs: patienceMs, ...options }
  }
}

/** A TLS client that does as it is told, and not what `enroll` would do. */
export async function rawClient(server: TestServer, keys: Partial<NodeKeys>, options: ConnectionOptions = {}): Promise<TLSSocket> {
  const socket = connect({
    ...server.address,
    ...(keys.authority === undefined ? {} : { ca: keys.authority }),
    ...(keys.certificate === undefined ? {} : { cert: keys.certificate }),
    ...(keys.privateKey === undefined ? {} : { key: keys.privateKey }),
    servername: server.credentials.knocks[0]!,
    checkServerIdentity: () => undefined,
    ...options,
  })
  socket.on('error', () => undefined)
  await once(socket, 'secureConnect')
  return socket
}

/** Everything that a socket sends until it ends, as frames and the bytes left over. */
export async function readToEnd(socket: TLSSocket): Promise<{ messages: unknown[]; rest: number }> {
  const decoder = new FrameDecoder()
  const messages: unknown[] = []
  socket.on('data', (piece: Buffer) => {
    decoder.push(piece)
    for (let frame = decoder.next(); frame !== undefined; frame = decoder.next()) messages.push(JSON.parse(frame.toString()))
  })
  if (!socket.destroyed) await new Promise((resolve) => socket.once('close', resolve))
  return { messages, rest: decoder.heldBytes }
}

export function helloFrame(node: string, changes: object = {}): Buffer {
  return encodeFrame({ type: 'hello', protocolVersion: 1, cluster, node, ...hello, ...changes })
}
