/** An orderly end, where it takes the memory away. */
import { describe, expect, it } from 'vitest'
import { BoxOwner } from '../region/box-owner.js'
import { Machine } from '../region/testing/memory-region.js'
import { lendWhileRecovered } from './own-region.js'

/** @param during what happens at each look, the first of them being 0 */
async function waitedMs(machine: Machine, during: (look: number) => void = () => undefined): Promise<number> {
  let waited = 0
  let looks = 0
  await lendWhileRecovered(machine.open(), {
    pause: async (ms) => {
      waited += ms
      during(looks++)
    },
  })
  return waited
}

describe('a daemon that ends in order', () => {
  it('goes on lending while one of its servers is being recovered', async () => {
    const machine = new Machine()
    BoxOwner.take(machine.open(), { name: 'shop' })
    machine.setFence(1, 1)
    machine.setClaim(1, 1, 'claimed')
    expect(await waitedMs(machine, (look) => machine.setClaim(1, 1, look < 9 ? 'adopted' : 'announced'))).toBe(10 * 20)
  })

  it('waits for nobody where nothing is fenced', async () => {
    expect(await waitedMs(new Machine())).toBe(0)
  })

  it('does not wait for ever', async () => {
    const machine = new Machine()
    machine.setFence('node', 1)
    expect(await waitedMs(machine)).toBe(5000)
  })
})
