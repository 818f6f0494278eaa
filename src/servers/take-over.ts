/** How a server takes a session over that the daemon of its machine has adopted. */
import { isBackdoorsError } from '../errors.js'
import type { BoxOwner } from '../region/box-owner.js'
import type { Region } from '../region/region.js'
import { boxSeed } from '../region/seed.js'
import { decodeRecord, originKey, type SessionVersion } from '../region/session-record.js'
import type { OfferedSession } from './local-protocol.js'

/** `taken`: it is in this server's own box. `kept`: there is another session of the same id, which stays. */
export type Taking = 'taken' | 'refused' | 'kept'

/** Commits an offered session into this server's own box, with its origin. */
export function takeOver({ region, sessions }: BoxOwner, offered: OfferedSession): Taking {
  const version = readOffered(region, offered)
  if (version === undefined) return 'refused'
  const store = sessions.store(version.store)
  try {
    const here = sessions.get(store, version.id)
    // An earlier offer of this very session may have been cut short.
    if (here) return here.origin !== undefined && version.origin !== undefined && originKey(here.origin, '', '') === originKey(version.origin, '', '') ? 'taken' : 'kept'
    const origin = version.origin === undefined ? {} : { origin: version.origin }
    sessions.commit(store, version.id, version.payload, { ttlMs: version.ttlMs, schemaVersion: version.schemaVersion, ...origin })
    return 'taken'
  } catch (error) {
    if (isBackdoorsError(error, 'BOX_FULL', 'SESSION_TOO_LARGE', 'RECORD_CORRUPT', 'FENCED')) return 'refused'
    throw error
  }
}

function readOffered({ bytes, header }: Region, { store, id, offset, length }: OfferedSession): SessionVersion | undefined {
  if (offset + length > bytes.length) return undefined
  // A copy is checked, not the daemon's box: that may move on meanwhile, and what is committed from here gets a CRC of its own.
  const version = decodeRecord(bytes.slice(offset, offset + length), boxSeed(header.incarnation, 0))
  return version?.store === store && version.id === id ? version : undefined
}
