/** The abstract tests of `aedes-persistence`, by Node's own test runner: `aedes.test.ts` starts it. Each test gets a region of its own. */
import abstract from 'aedes-persistence/abstract.js'
import { test } from 'node:test'
import { BackdoorsPersistence } from '../aedes.js'
import { loneNode } from './lone-node.js'

abstract({
  test,
  testAsync: true,
  persistence: async () => {
    const lone = await loneNode({ heapBytes: 2 << 20 })
    const persistence = new BackdoorsPersistence(lone.node)
    const destroy = persistence.destroy.bind(persistence)
    persistence.destroy = async () => {
      await destroy()
      await lone.close()
    }
    return persistence
  },
})
