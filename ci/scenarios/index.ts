/** All scenarios, in the order of `rig list`. */

import type { Scenario } from '../scenario.js'
import { auction } from './auction.js'
import { cascade } from './cascade.js'
import { daemonDies } from './daemon-dies.js'
import { detect } from './detect.js'
import { extractRate } from './extract-rate.js'
import { freezeHost } from './freeze-host.js'
import { panicInspect } from './panic-inspect.js'
import { partition } from './partition.js'
import { perftest } from './perftest.js'
import { readLatency } from './read-latency.js'
import { recovererDies } from './recoverer-dies.js'
import { hangHost, panicRecover } from './host-failure.js'
import { idleHost } from './idle-host.js'
import { killServer } from './server-failure.js'
import { stream } from './stream.js'
import { tcpTakeover } from './tcp-takeover.js'
import { zombie } from './zombie.js'

export const scenarios: readonly Scenario[] = [killServer, zombie, freezeHost, daemonDies, partition, recovererDies, cascade, panicRecover, panicInspect, tcpTakeover, stream, auction, hangHost, idleHost, detect, readLatency, extractRate, perftest]
