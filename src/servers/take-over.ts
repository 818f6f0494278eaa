/** How a server takes a session over that the daemon of its machine has adopted. */
import { isBackdoorsError } from '../errors.js'
import type { BoxOwner } from '../region/box-owner.js'
import type { Region } from '../region/region.js'
import { boxSeed } from '../region/seed.js'
import { decodeRecord, originKey, type SessionVersion } from '../region/session-record.js'
import type { OfferedSession } from './local-protocol.js'

/** Commits an offered session into this server's own box, with its origin. @returns whether it is there now */
export function takeOver({ region, sessions }: BoxOwner, offered: OfferedSession): boolean {
  const version = readOffered(region, offered)
  if (version === undefined) return false
  const store = sessions.store(version.store)
  try {
    const here = sessions.get(store, version.id)
    // An earlier offer of this very session may have been cut short; another session of the same id is kept.
    if (here) return here.origin !== undefined && version.origin !== undefined && originKey(here.origin, '', '') === originKey(version.origin, '', '')
    const origin = version.origin === undefined ? {} : { origin: version.origin }
    sessions.commit(store, version.id, version.payload, { ttlMs: version.ttlMs, schemaVersion: version.schemaVersion, ...origin })
    return true
  } catch (error) {
    if (isBackdoorsError(error, 'BOX_FULL', 'SESSION_TOO_LARGE', 'RECORD_CORRUPT', 'FENCED')) return false
    throw error
  }
}

function readOffered({ bytes, header }: Region, { store, id, offset, length }: OfferedSession): SessionVersion | undefined {
  if (offset + length > bytes.length) return undefined
  const version = decodeRecord(bytes.subarray(offset, offset + length), boxSeed(header.incarnation, 0))
  return version?.store === store && version.id === id ? version : undefined
}
