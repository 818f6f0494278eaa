/** Adoption into this node's own region, where a second failure finds the sessions again. */
import { isBackdoorsError } from '../errors.js'
import type { BoxOwner } from '../region/box-owner.js'
import { originKey } from '../region/session-record.js'
import type { AdoptionResult, RecoveredSession } from './recover.js'

/** Commits between two turns of the event loop, so that a large adoption does not stall the daemon's sensors. */
const commitsPerTurn = 512

/**
 * Commits each session with its origin into `box`, the daemon's own. A session whose origin is there already is
 * left as it is, so that a recovery that is run again adopts nothing twice.
 * @throws BackdoorsError FENCED where this node has itself been fenced meanwhile
 */
export async function adoptInto(box: BoxOwner, sessions: readonly RecoveredSession[]): Promise<AdoptionResult> {
  const result = { adopted: 0, known: 0, refused: 0 }
  for (const [i, session] of sessions.entries()) {
    const store = box.sessions.store(session.store)
    const here = box.sessions.get(store, session.id)
    const same = here?.origin && originKey(here.origin, here.store, here.id) === originKey(session.origin, session.store, session.id)
    if (same) result.known++
    else if (commit(box, session)) result.adopted++
    else result.refused++
    if (i % commitsPerTurn === commitsPerTurn - 1) await new Promise(setImmediate)
  }
  return result
}

function commit(box: BoxOwner, session: RecoveredSession): boolean {
  try {
    box.sessions.commit(box.sessions.store(session.store), session.id, session.payload, {
      ttlMs: session.remainingMs, schemaVersion: session.schemaVersion, origin: session.origin,
    })
    return true
  } catch (error) {
    if (isBackdoorsError(error, 'BOX_FULL', 'SESSION_TOO_LARGE')) return false
    throw error
  }
}
