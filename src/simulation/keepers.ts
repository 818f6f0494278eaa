/** Whose a session is by what the claims say: each that says `adopted` hands it on to the box of the recoverer's daemon. */
import { draftsLeftIn, speaksOf } from '../recovery/adoption-notes.js'
import { decodeClaim, isBefore, type Claim } from '../region/control.js'
import { daemonBox } from '../region/layout.js'
import type { Recoverer } from './cluster.js'
import type { RegionLife } from './region-life.js'

export interface Keeper {
  readonly life: RegionLife
  readonly box: number
}

export const claimKey = (life: RegionLife, box: number | 'node'): string => `${life.header.incarnation}/${box}`

/**
 * First whose memory a box is, then who adopted it from there, and so on.
 * @param canTell can anybody read that memory, or has somebody read it? Where nobody can tell whether it calls what it holds drafts, it is its keeper
 */
export function keepersOf(recoverers: ReadonlyMap<string, Recoverer>, life: RegionLife, box: number, canTell: (life: RegionLife) => boolean = () => true): Keeper[] {
  const keepers: Keeper[] = [{ life, box }]
  // The list grows while it is gone through.
  for (const keeper of keepers) {
    for (const heir of heirsOf(recoverers, keeper, canTell)) if (!keepers.some((known) => known.life === heir.life && known.box === heir.box)) keepers.push(heir)
  }
  return keepers
}

function heirsOf(recoverers: ReadonlyMap<string, Recoverer>, { life, box }: Keeper, canTell: (life: RegionLife) => boolean): Keeper[] {
  return ([box, 'node'] as const).flatMap((target) => {
    const claim = decodeClaim(life.words.claim(target))
    const recoverer = recoverers.get(claimKey(life, target))
    // From then on they are the recoverer's own, though nobody there may have been told so, and are lost with it.
    const isTheirs = claim !== undefined && !isBefore(claim.step, 'adopted')
    return isTheirs && recoverer !== undefined && !(canTell(recoverer.life) && isDraftAt(recoverer.life, life, target, claim)) ? [{ life: recoverer.life, box: daemonBox }] : []
  })
}

/** Does the recoverer's memory say that these are drafts: that they have to be taken from where they came? */
function isDraftAt(recoverer: RegionLife, { host, header }: RegionLife, target: number | 'node', claim: Claim): boolean {
  return draftsLeftIn(recoverer.open()).some((note) => speaksOf(note, { node: host, incarnation: header.incarnation, target }, claim))
}
