import { describe, expect, it } from 'vitest'
import { isBackdoorsError } from '../errors.js'
import { BoxOwner } from '../region/box-owner.js'
import { Machine } from '../region/testing/memory-region.js'
import { messagePackCodec } from './codec.js'
import { SessionStore, type SessionStoreOptions } from './session-store.js'

const setUp = (): { owner: BoxOwner; open: (options: SessionStoreOptions<string>) => SessionStore<string> } => {
  const owner = BoxOwner.take(new Machine().open(), { name: 'shop', nowMs: () => 1000 })
  return { owner, open: (options) => new SessionStore(owner, 'carts', messagePackCodec<string>(), options) }
}

function fieldRefused(run: () => unknown): string | undefined {
  try {
    run()
  } catch (error) {
    if (isBackdoorsError(error, 'INVALID_ARGUMENT')) return error.details.field
    throw error
  }
  return undefined
}

describe('a session store', () => {
  it.each(['ttlMs', 'schemaVersion'] as const)('refuses a %s that its records could not hold, and names it', (field) => {
    const { owner, open } = setUp()
    for (const wrong of [-1, 1.5, 2 ** 32, NaN, Infinity]) expect(fieldRefused(() => open({ [field]: wrong })), String(wrong)).toBe(field)
    expect([...owner.sessions.stores()]).toEqual([])
  })

  it.each([0, 1, 2 ** 31, 2 ** 32 - 1])('commits its sessions with a time to live and a schema version of %i', (number) => {
    const { owner, open } = setUp()
    const store = open({ ttlMs: number, schemaVersion: number })
    store.commit('u-1', 'milk')
    expect(store.get('u-1')).toBe('milk')
    expect(owner.sessions.get(owner.sessions.store('carts'), 'u-1')).toMatchObject({ ttlMs: number, schemaVersion: number })
  })
})
