/** `--region` and `--config`: two ways to say which daemon of this machine is meant. */
import { Option, type Command } from 'commander'
import { resolve } from 'node:path'
import { BackdoorsError } from '../errors.js'

export interface RegionOptions {
  readonly region?: string
  readonly config?: string
}

export function addRegionOptions(command: Command): Command {
  return command
    .addOption(new Option('--region <path>', 'the region that the daemon lends').conflicts('config'))
    .addOption(new Option('--config <file>', "the daemon's configuration, which names its region"))
}

/** @throws BackdoorsError INVALID_ARGUMENT where neither is given, CONFIG_INVALID */
export async function regionPathOf({ region, config }: RegionOptions): Promise<string> {
  if (region !== undefined) return resolve(region)
  if (config === undefined) throw new BackdoorsError('INVALID_ARGUMENT', 'Which daemon? Give --region PATH or --config FILE.', { field: 'region' })
  const { loadConfig } = await import('../daemon/config.js')
  return loadConfig(config).region.path
}
