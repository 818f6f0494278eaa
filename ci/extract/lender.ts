/**
 * Runs in a guest: a region in which one server's box holds committed sessions, lent over verbs. Its argument is a `SessionsPlan` as JSON. It prints
 * `{"ready":true}` when all are committed, answers a line with a reader's endpoints by what that is lent, and ends with its input.
 */
import { createInterface } from 'node:readline'
import { decode, encode } from '../../hwtests/peer-protocol.js'
import type { EndpointPair } from '../../src/fabric/lending.js'
import { VerbsDevice, VerbsLender } from '../../src/fabric/verbs/index.js'
import { BoxOwner } from '../../src/region/box-owner.js'
import { record } from '../../src/region/layout.js'
import { createRegion } from '../../src/region/region.js'
import { answerTimeout } from '../link-times.js'
import { PlannedSessions, type SessionsPlan } from './sessions.js'

const plan = JSON.parse(process.argv[2] ?? '{}') as SessionsPlan
const { sessions, sessionBytes } = plan
const store = { name: 'shop', options: { ttlMs: 3_600_000, schemaVersion: 1 } } as const

// Two slots for each session, with all that is round a payload.
const heapBytes = Math.ceil(2.2 * sessions * (sessionBytes + record.headerBytes + 128))
const region = createRegion('/dev/shm/backdoors-extract', 'lender', 'rig', { boxCount: 2, sensorsPerBox: 4, sessionsPerBox: sessions, heapBytes })
const owner = BoxOwner.take(region, { name: 'shop' })
const planned = new PlannedSessions(plan)
const opened = owner.sessions.store(store.name)
const commit = (index: number): void => void owner.sessions.commit(opened, planned.idOf(index), planned.payloadOf(index), store.options)
for (let index = 0; index < sessions; index++) commit(index)
// Every third once more, so that not all stand in their first slot.
for (let index = 0; index < sessions; index += 3) commit(index)

const device = VerbsDevice.open({ device: 'rxe0' })
const lender = new VerbsLender({ device, memory: region.memory, queuePairs: { timeout: answerTimeout } })
const print = (value: unknown): void => void process.stdout.write(`${encode(value)}\n`)
print({ ready: true, box: owner.box })
for await (const line of createInterface({ input: process.stdin })) print(lender.accept('extractor', decode(line) as EndpointPair))
lender.close()
device.close()
owner.close()
