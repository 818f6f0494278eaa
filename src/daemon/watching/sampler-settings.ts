import type { Logger } from 'pino'
import type { SamplerSettings } from '../../fabric/sampling/shared-sampler.js'
import type { DaemonConfig } from '../config.js'

/** How the sampler's thread runs, by the configuration; what is not permitted is logged, and it runs without. */
export function samplerSettings({ watch: { cpu, realtime } }: DaemonConfig, log: Logger): SamplerSettings {
  return { ...(cpu === undefined ? {} : { cpu }), realtime, onWarning: (warning) => log.warn({ warning }, 'the sampler runs otherwise than configured') }
}
