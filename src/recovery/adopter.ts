/** Adoption into this node's own region, where a second failure finds the sessions again. */
import { isBackdoorsError } from '../errors.js'
import type { BoxOwner } from '../region/box-owner.js'
import { originKey, type SessionVersion } from '../region/session-record.js'
import type { HeldStore } from '../region/session-writer.js'
import type { AdoptionResult, RecoveredSession } from './recover.js'

/** Commits between two turns of the event loop, so that a large adoption does not stall the daemon's sensors. */
const commitsPerTurn = 512

/**
 * Commits each session with its origin into `box`, the daemon's own. A session whose origin is there already is
 * left as it is, so that a recovery that is run again adopts nothing twice. One that this box cannot take is
 * counted, and costs its neighbours nothing.
 * @throws BackdoorsError FENCED where this node has itself been fenced meanwhile; CLOSED where it has closed its box
 */
export async function adoptInto(box: BoxOwner, sessions: readonly RecoveredSession[]): Promise<AdoptionResult> {
  const result = { adopted: 0, known: 0, refused: 0 }
  for (const [i, session] of sessions.entries()) {
    result[adopt(box, session)]++
    if (i % commitsPerTurn === commitsPerTurn - 1) await new Promise(setImmediate)
  }
  return result
}

function adopt(box: BoxOwner, session: RecoveredSession): keyof AdoptionResult {
  try {
    const store = box.sessions.store(session.store)
    const here = ownVersion(box, store, session.id)
    const same = here?.origin && originKey(here.origin, here.store, here.id) === originKey(session.origin, session.store, session.id)
    if (same) return 'known'
    box.sessions.commit(store, session.id, session.payload, {
      ttlMs: session.remainingMs, schemaVersion: session.schemaVersion, origin: session.origin,
    })
    return 'adopted'
  } catch (error) {
    if (isBackdoorsError(error, 'BOX_FULL', 'SESSION_TOO_LARGE', 'SESSION_ID_INVALID', 'INVALID_ARGUMENT')) return 'refused'
    throw error
  }
}

/** What this box holds of the session. A version that has been damaged here is none: the one that comes in is whole. */
function ownVersion(box: BoxOwner, store: HeldStore, id: string): SessionVersion | undefined {
  try {
    return box.sessions.get(store, id)
  } catch (error) {
    if (isBackdoorsError(error, 'RECORD_CORRUPT')) return undefined
    throw error
  }
}
