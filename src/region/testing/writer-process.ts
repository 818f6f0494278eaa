/**
 * A server process of a test: takes a box and commits as fast as it can, until it is killed.
 *
 *     writer-process.ts REGION NAME SESSIONS PAYLOAD_BYTES [ROUNDS]
 *
 * Writes `ready BOX GENERATION`, then a line `SESSION COMMIT` after each commit that was acknowledged. A commit's
 * payload is made by `payloadOf`, so whoever reads it can tell whether it is whole.
 */
import { writeSync } from 'node:fs'
import { BoxOwner } from '../box-owner.js'
import { openRegion } from '../region.js'
import { payloadOf } from './writer-box.js'

const [path = '', name = '', sessions = '1', bytes = '100', rounds = 'Infinity'] = process.argv.slice(2)
const owner = BoxOwner.take(openRegion(path), { name })
const store = owner.sessions.store('carts')
writeSync(1, `ready ${owner.box} ${owner.generation}\n`)

for (let commit = 1; commit <= Number(rounds); commit++) {
  for (let session = 0; session < Number(sessions); session++) {
    const id = `u-${session}`
    const length = 20 + ((commit * 37 + session * 101) % Number(bytes))
    owner.sessions.commit(store, id, payloadOf(id, commit, length), { ttlMs: 0, schemaVersion: commit })
    writeSync(1, `${session} ${commit}\n`)
  }
}
writeSync(1, 'done\n')
setInterval(() => undefined, 1000)
