/** The daemon's part in continuing connections, with its socket for the servers, where its configuration asks for it. */
import type { Logger } from 'pino'
import { networkAddon } from '../../native/load.js'
import { connectionsSocketPathOf } from '../../servers/local-protocol.js'
import type { DaemonConfig } from '../config.js'
import { systemTime } from '../daemon-time.js'
import type { Handover } from '../handover.js'
import type { BoxGeneration } from '../offered-sessions.js'
import { Connections } from './connections.js'
import { ConnectionsSocket } from './connections-socket.js'
import type { ConnectionsReport } from './report.js'

export interface ContinuedConnections {
  readonly connections: Connections
  /** @throws BackdoorsError SYSTEM_CALL_FAILED */
  listen(): void
  close(): Promise<void>
}

export interface OpenConnectionsOptions {
  readonly config: DaemonConfig
  readonly handover: Pick<Handover, 'isHandingOver'>
  /** The server that continues connections to this local port. */
  readonly continuing: (port: number) => BoxGeneration | undefined
  readonly onReport: (report: ConnectionsReport) => void
  readonly log: Logger
}

/** @returns undefined where no address of another node can come here: its connections cannot either */
export function openConnections({ config, handover, continuing, onReport, log }: OpenConnectionsOptions): ContinuedConnections | undefined {
  const { addresses, connections: { enabled }, fence } = config.recovery
  if (!enabled || addresses.every(({ node }) => node === config.node)) return undefined
  const socket = new ConnectionsSocket(connectionsSocketPathOf(config.region.path), (server) => connections.onServerGone(server), log)
  const connections: Connections = new Connections({
    addresses, network: networkAddon(),
    isSilencedOutside: fence?.silences === true,
    servers: { continuing, isThere: (server) => socket.isThere(server), give: (server, given) => socket.give(server, given) },
    areSessionsUnderWay: () => handover.isHandingOver,
    onReport, time: systemTime, log,
  })
  return {
    connections,
    listen: () => socket.listen(),
    close: async () => {
      await connections.close()
      socket.close()
    },
  }
}
