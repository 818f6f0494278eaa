/** For each test a lone node of its own, and what ends that and all that the test adds to it. */
import { afterEach, beforeEach } from 'vitest'
import type { Closers } from './broker.js'
import { loneNode, type LoneNode } from './lone-node.js'

/** To be called once in a file, outside of its tests. @returns the present test's, whichever that is */
export function loneNodeEach(): { readonly lone: LoneNode; readonly closers: Closers } {
  let present: LoneNode
  const closers: Closers = []
  beforeEach(async () => {
    const begun = await loneNode()
    present = begun
    closers.push(() => begun.close())
  })
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close()
  })
  const lone: LoneNode = {
    get node() {
      return present.node
    },
    fence: () => present.fence(),
    restart: () => present.restart(),
    close: () => present.close(),
  }
  return { lone, closers }
}
