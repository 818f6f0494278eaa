/** All scenarios, in the order of `rig list`. */

import type { Scenario } from '../scenario.js'
import { freezeHost } from './freeze-host.js'
import { perftest } from './perftest.js'
import { readLatency } from './read-latency.js'
import { hangServer, killServer } from './server-failure.js'

export const scenarios: readonly Scenario[] = [killServer, hangServer, freezeHost, readLatency, perftest]
