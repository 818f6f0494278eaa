/** `backdoors sessions NODE`: the sessions that stand in a peer's memory, read from here. */
import { InvalidArgumentError, type Command } from 'commander'
import type { ListedSession, SessionList } from '../../daemon/status.js'
import { askDaemon } from '../ask-daemon.js'
import type { Output } from '../output.js'
import { addRegionOptions, regionPathOf, type RegionOptions } from '../region-option.js'
import { formatBytes, formatUs } from '../quantities.js'
import { table } from '../table.js'

const examples = `
Examples:
  backdoors sessions b --config /etc/backdoors.yaml
  backdoors sessions b --region /dev/shm/backdoors-a --limit 5000 --json

NODE is a peer that the daemon of this machine watches. It is asked nothing: its memory is read.`

/** So that an answer of the longest names stays below the limit of a message on the local socket. */
const maxListed = 10_000

export function registerSessions(program: Command, output: Output): void {
  addRegionOptions(program.command('sessions <node>'))
    .description("the sessions in a peer's memory")
    .option('--limit <count>', 'how many to list', parseLimit, 1000)
    .option('--json', 'one JSON object on stdout')
    .addHelpText('after', examples)
    .action(async (node: string, { json, limit, ...options }: RegionOptions & { json?: boolean; limit: number }) => {
      const list = (await askDaemon(await regionPathOf(options), 'sessions', { node, limit })) as SessionList
      if (json) output.json({ node, ...list })
      else print(list, output)
    })
}

function parseLimit(text: string): number {
  const limit = Number(text)
  if (Number.isInteger(limit) && limit >= 1 && limit <= maxListed) return limit
  throw new InvalidArgumentError(`It must be a whole number from 1 to ${maxListed}.`)
}

function print({ total, sessions }: SessionList, output: Output): void {
  if (sessions.length > 0) output.line(table(['server', 'store', 'id', 'sequence', 'size', 'schema', 'expires in', 'adopted from'], sessions.map(rowOf)))
  output.line(`${total} sessions${sessions.length < total ? `, the first ${sessions.length} listed` : ''}`)
}

function rowOf({ server, store, id, sequence, bytes, schemaVersion, remainingMs, adoptedFrom }: ListedSession): (string | number | undefined)[] {
  return [server, store, id, sequence, formatBytes(bytes), schemaVersion, remainingMs > 0 ? formatUs(remainingMs * 1000) : 'never', adoptedFrom]
}
