/** The region of a host as its dead kernel has it: a verdict that rested on pages that are the region's no more is none. */
import type { Logger } from 'pino'
import { BackdoorsError } from '../../errors.js'
import type { RemoteMemory } from '../../fabric/remote-memory.js'
import { ScatteredMemory } from '../../fabric/scattered-memory.js'
import { readBootIdentity } from '../../kernel/boot-identity.js'
import { hasSamePages, revisitHostRegion, type HostRegion } from '../../kernel/host-region.js'
import type { KernelImage } from '../../kernel/kernel-image.js'
import { pageBytes } from '../../kernel/page-table-format.js'
import { PhysicalMemory } from '../../kernel/physical-memory.js'
import { readHeader } from '../../region/region-reader.js'

/** A host as it was while it was healthy. */
export interface KnownHost {
  readonly peer: string
  readonly image: KernelImage
  readonly region: HostRegion
  /** See `readBootIdentity`. */
  readonly boot: string
  /** What its memory is read by at a recovery. */
  readonly recovery: RemoteMemory
  readonly log: Pick<Logger, 'warn'>
}

/**
 * Nothing is fenced for a region that has moved, and the host is judged anew. What can no longer be followed in the kernel is read where it
 * was.
 * @throws BackdoorsError MEMORY_LOST where the host was started anew, or its region is elsewhere; what reading throws
 */
export async function regionAtRecovery({ peer, image, region: known, boot, recovery, log }: KnownHost): Promise<RemoteMemory> {
  const physical = new PhysicalMemory(recovery, image.physical.spans)
  const dead = image.over(physical)
  const lost = (why: string): BackdoorsError => new BackdoorsError('MEMORY_LOST', `${peer} cannot be recovered from where its region was found: ${why}`, { peer })
  if ((await readBootIdentity(dead)) !== boot) throw lost('it has been started anew')
  const memory = scattered(recovery, physical, known)
  const found = await revisitHostRegion(dead, known)
  if (found) {
    if (!hasSamePages(found, known)) throw lost('pages of it have been moved')
    return memory
  }
  const header = await readHeader(memory)
  if (header.incarnation !== known.header.incarnation) throw lost('another one is there')
  log.warn({ host: peer }, 'nobody maps the region in the dead kernel any more; it is read where it was')
  return memory
}

/** @throws BackdoorsError OUT_OF_RANGE where a page is not lent */
export function scattered(base: RemoteMemory, physical: PhysicalMemory, { header, pages }: HostRegion): ScatteredMemory {
  const offsets = physical.locatePages(pages, pageBytes)
  const missing = pages[offsets.findIndex(Number.isNaN)]
  if (missing !== undefined) throw new BackdoorsError('OUT_OF_RANGE', `A page of the region of ${header.node}, at physical address 0x${missing.toString(16)}, is not lent.`, { peer: header.node, offset: missing, length: pageBytes })
  return new ScatteredMemory({ base, pages: offsets, pageBytes, length: header.plan.regionBytes })
}
