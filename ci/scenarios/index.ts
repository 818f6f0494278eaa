/** All scenarios, in the order of `rig list`. */

import type { Scenario } from '../scenario.js'
import { freezeHost } from './freeze-host.js'
import { panicInspect } from './panic-inspect.js'
import { perftest } from './perftest.js'
import { readLatency } from './read-latency.js'
import { hangHost, panicRecover } from './host-failure.js'
import { idleHost } from './idle-host.js'
import { hangServer, killServer } from './server-failure.js'

export const scenarios: readonly Scenario[] = [killServer, hangServer, freezeHost, panicRecover, panicInspect, hangHost, idleHost, readLatency, perftest]
