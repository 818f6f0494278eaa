/** `backdoors sensors NODE`: the sensors in a peer's memory, and how long ago each moved. */
import type { Command } from 'commander'
import type { ListedSensor } from '../../daemon/status.js'
import { askDaemon } from '../ask-daemon.js'
import type { Output } from '../output.js'
import { addRegionOptions, regionPathOf, type RegionOptions } from '../region-option.js'
import { formatUs } from '../quantities.js'
import { table } from '../table.js'

const examples = `
Examples:
  backdoors sensors b --config /etc/backdoors.yaml
  backdoors sensors b --region /dev/shm/backdoors-a --json

NODE is a peer that the daemon of this machine watches. Ages are measured here, by this machine's clock.`

export function registerSensors(program: Command, output: Output): void {
  addRegionOptions(program.command('sensors <node>'))
    .description("the sensors in a peer's memory")
    .option('--json', 'one JSON object on stdout')
    .addHelpText('after', examples)
    .action(async (node: string, { json, ...options }: RegionOptions & { json?: boolean }) => {
      const sensors = (await askDaemon(await regionPathOf(options), 'sensors', { node })) as ListedSensor[]
      if (json) output.json({ node, sensors })
      else if (sensors.length === 0) output.line('no sensors')
      else output.line(table(['server', 'sensor', 'kind', 'counter', 'pending', 'moved', 'deadline', 'value', 'limit', 'state'], sensors.map(rowOf)))
    })
}

function rowOf(sensor: ListedSensor): (string | number | undefined)[] {
  const { server, name, kind, counter, pending, deadlineUs, value, limit, ageUs, stalled } = sensor
  if (kind !== 'progress') return [server, name, kind, undefined, undefined, undefined, undefined, value, limit, value > limit && limit > 0 ? 'over its limit' : 'ok']
  const moved = ageUs === undefined ? undefined : `${formatUs(ageUs)} ago`
  return [server, name, kind, counter, pending, moved, formatUs(deadlineUs), undefined, undefined, stalled ? 'STALLED' : pending === 0 ? 'idle' : 'moves']
}
