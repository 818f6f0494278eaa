/** `backdoors status`: what the daemon of this machine says of itself and of the peers it watches. */
import type { Command } from 'commander'
import type { DaemonStatus, PeerStatus } from '../../daemon/status.js'
import { askDaemon } from '../ask-daemon.js'
import { exitCodes } from '../exit-codes.js'
import type { Output } from '../output.js'
import { printable } from '../inspect/text.js'
import { addRegionOptions, regionPathOf, type RegionOptions } from '../region-option.js'
import { formatUs } from '../quantities.js'
import { table } from '../table.js'

const examples = `
Examples:
  backdoors status --config /etc/backdoors.yaml
  backdoors status --region /dev/shm/backdoors-a --json

Exits with 4 where this node has been fenced, and with 1 where a watched peer is not connected, not alive,
or has a server that is gone or stalled.`

export function registerStatus(program: Command, output: Output): void {
  addRegionOptions(program.command('status'))
    .description("this machine's daemon, and the verdict on each peer that it watches")
    .option('--json', 'one JSON object on stdout')
    .addHelpText('after', examples)
    .action(async ({ json, ...options }: RegionOptions & { json?: boolean }) => {
      const status = (await askDaemon(await regionPathOf(options), 'status')) as DaemonStatus
      if (json) output.json(status)
      else print(status, output)
      const allWell = status.peers.every(({ connected, verdict, servers = [] }) => connected && verdict === 'alive' && !servers.some(isFailed))
      if (status.fenced) output.exitCode = exitCodes.fenced
      else if (!allWell) output.exitCode = exitCodes.failed
    })
}

function print(status: DaemonStatus, output: Output): void {
  output.line(`node ${status.node} of cluster ${status.cluster}, incarnation ${status.incarnation}${status.fenced ? ', FENCED' : ''}`)
  output.line(`lends ${status.region} over ${status.fabric}`)
  output.line(`servers: ${status.servers.join(', ') || 'none'}; adopted sessions that wait for a server: ${status.waitingSessions}`)
  if (status.membership.trouble) output.line(`membership by ${status.membership.source} is not followed, and is as it was known last: ${status.membership.trouble.message}`)
  if (status.peers.length === 0) return output.line('watches nobody')
  output.line(table(['peer', 'verdict', 'servers', 'rounds', 'failed', 'round trip', 'seen'], status.peers.map(rowOf)))
  for (const { peer, conditions = [], flapping = [] } of status.peers) {
    for (const { server, sensor, value, limit } of conditions) output.line(`${server === undefined ? peer : `${printable(server)} on ${peer}`} is under pressure: ${printable(sensor)} is ${Math.round(value)}, and should stay below ${Math.round(limit)}`)
    if (flapping.length > 0) output.line(`flapping on ${peer}, so that not every change is told: ${flapping.map(printable).join(', ')}`)
  }
}

function rowOf(peer: PeerStatus): (string | number | undefined)[] {
  const servers = peer.servers?.map(stateOf).join(', ')
  const roundTrip = peer.meanRoundTripUs === undefined ? undefined : formatUs(peer.meanRoundTripUs)
  return [peer.peer, peer.connected ? peer.verdict : 'not connected', servers, peer.rounds, peer.failedRounds, roundTrip, peer.seen]
}

type Server = NonNullable<PeerStatus['servers']>[number]

const isFailed = ({ exited, sensors }: Server): boolean => exited || sensors.some(({ stalled }) => stalled)

function stateOf(server: Server): string {
  if (!isFailed(server)) return server.name
  return `${server.name} (${server.exited ? 'gone' : 'stalled'})`
}
