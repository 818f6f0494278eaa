/** Where a daemon's peers enroll: who may, and what is taken back from whom when his connection is over. */
import type { Logger } from 'pino'
import { BackdoorsError } from '../../errors.js'
import { type ControlConnection, Credentials, EnrollmentServer, type Hello, type RequestHandlers, type Welcome } from '../../fabric/enrollment/index.js'
import type { DaemonConfig, PeerConfig } from '../config.js'

export interface PeerEnrollmentOptions {
  readonly config: DaemonConfig
  readonly credentials: Credentials
  /** What a peer that has said hello is lent. @throws BackdoorsError, which it is told */
  readonly lend: (peer: string, hello: Hello) => Welcome
  /** Takes back what was lent last to this peer. */
  readonly release: (peer: string) => void
  /** Methods that peers may call. */
  readonly handlers: RequestHandlers
  readonly log: Logger
}

/** @throws BackdoorsError KEYS_MISSING; CERTIFICATE_INVALID, also where the keys are those of another node */
export async function loadCredentials({ keys, node }: DaemonConfig): Promise<Credentials> {
  const credentials = await Credentials.load(keys as string)
  if (credentials.node === node) return credentials
  throw new BackdoorsError('CERTIFICATE_INVALID', `The keys in ${keys} are those of node ${credentials.node}, not of ${node}.`, { peer: node, path: keys as string })
}

export class PeerEnrollment {
  readonly #options: PeerEnrollmentOptions
  readonly #server: EnrollmentServer
  /** The connection that a peer's queue pairs were lent over; an older one that ends takes nothing back. */
  readonly #lentOver = new Map<string, AbortSignal>()
  #names: ReadonlySet<string>

  constructor(options: PeerEnrollmentOptions) {
    const { config, credentials, handlers, log } = options
    this.#options = options
    this.#names = namesOf(config.peers)
    this.#server = new EnrollmentServer({
      listen: config.listen as { host: string; port: number },
      credentials,
      cluster: config.cluster,
      peers: () => this.#names,
      lend: async (peer, hello, signal) => this.#lend(peer, hello, signal),
      handlers,
      logger: log,
    })
  }

  /**
   * Resolves to where it listens.
   * @throws BackdoorsError SYSTEM_CALL_FAILED, e.g. if the port is taken
   */
  async start(): Promise<{ host: string; port: number }> {
    return await this.#server.start()
  }

  /** The control connections that peers have made and that stand, by their names. */
  get connections(): ReadonlyMap<string, ControlConnection> {
    return this.#server.connections
  }

  /** Who is no member any more is lent nothing any more. */
  setMembers(members: readonly PeerConfig[]): void {
    this.#names = namesOf(members)
    this.#server.recheckPeers()
  }

  async close(): Promise<void> {
    await this.#server.close()
  }

  #lend(peer: string, hello: Hello, signal: AbortSignal): Welcome {
    const welcome = this.#options.lend(peer, hello)
    this.#lentOver.set(peer, signal)
    signal.addEventListener('abort', () => {
      if (this.#lentOver.get(peer) !== signal) return
      this.#lentOver.delete(peer)
      this.#options.release(peer)
    }, { once: true })
    return welcome
  }
}

const namesOf = (peers: readonly PeerConfig[]): ReadonlySet<string> => new Set(peers.map(({ name }) => name))
