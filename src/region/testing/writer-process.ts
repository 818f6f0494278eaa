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

const pause = new Int32Array(new SharedArrayBuffer(4))

/** Returns when the line is in the pipe, which is full while its reader has other things to do. */
function say(line: string): void {
  let bytes = Buffer.from(`${line}\n`)
  while (bytes.length > 0) {
    try {
      bytes = bytes.subarray(writeSync(1, bytes))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
      Atomics.wait(pause, 0, 0, 1)
    }
  }
}

const [path = '', name = '', sessions = '1', bytes = '100', rounds = 'Infinity'] = process.argv.slice(2)
const owner = BoxOwner.take(openRegion(path), { name })
const store = owner.sessions.store('carts')
say(`ready ${owner.box} ${owner.generation}`)

for (let commit = 1; commit <= Number(rounds); commit++) {
  for (let session = 0; session < Number(sessions); session++) {
    const id = `u-${session}`
    const length = 20 + ((commit * 37 + session * 101) % Number(bytes))
    owner.sessions.commit(store, id, payloadOf(id, commit, length), { ttlMs: 0, schemaVersion: commit })
    say(`${session} ${commit}`)
  }
}
say('done')
setInterval(() => undefined, 1000)
