/** What a scenario is: a whole failure, or a measurement, on guests of its own. */

import type { Guest, GuestOptions } from './guest.js'
import type { EthernetSwitch } from './switch.js'

/** What a scenario finds out: `ok`, and figures with their units last in their names. Printed as one JSON object. */
export interface ScenarioResult {
  readonly ok: boolean
  readonly [figure: string]: unknown
}

export interface ScenarioContext {
  /** Boots guests of these names side by side; they end with the scenario. */
  readonly boot: <const Names extends readonly string[]>(
    names: Names,
    options?: Omit<GuestOptions, 'name' | 'number'>,
  ) => Promise<{ [Index in keyof Names]: Guest }>
  /** A path for a guest's RAM file, removed when the run ends. */
  readonly ramFile: (name: string) => string
  readonly network: EthernetSwitch
  /** How often to repeat what is measured. */
  readonly trials: number
  /** Where a picture is wanted, for scenarios that draw one. */
  readonly plotPath?: string
  /** A folder on the host that outlives the run: the place for raw samples and pictures. */
  readonly runPath: string
  /** What scenarios that run on the same machines make once, and have together. */
  readonly shared: <T>(name: string, make: () => Promise<T>) => Promise<T>
  /** A line of the live timeline, on standard error. */
  readonly log: (line: string) => void
}

export interface Scenario {
  /** As given to `rig run`. */
  readonly name: string
  /** One line for `rig list`. */
  readonly summary: string
  /** Neighbours of one name run on the same machines, which they leave as they found them. */
  readonly machines?: string
  /** Of a full run, where `--trials` does not say otherwise; 1 by default. */
  readonly defaultTrials?: number
  /** Throws only when no verdict was possible; what was tested and found wanting is `ok: false`. */
  run(context: ScenarioContext): Promise<ScenarioResult>
}
