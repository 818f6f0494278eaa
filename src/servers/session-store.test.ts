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

  it('gives bytes that stay what they are when the session is committed anew', () => {
    const { owner } = setUp()
    const store = new SessionStore<{ bytes: Uint8Array }>(owner, 'blobs', messagePackCodec<{ bytes: Uint8Array }>(), {})
    store.commit('u-1', { bytes: Buffer.from([1, 2, 3]) })
    const found = store.get('u-1')
    for (const bytes of [[4, 5, 6], [7, 8, 9]]) store.commit('u-1', { bytes: Buffer.from(bytes) })
    expect([...(found?.bytes ?? [])]).toEqual([1, 2, 3])
  })

  it('gives one session a time to live of its own, and refuses one that is none', () => {
    const { owner, open } = setUp()
    const store = open({ ttlMs: 5 })
    store.commit('u-1', 'milk', 7)
    store.commit('u-2', 'eggs')
    expect(['u-1', 'u-2'].map((id) => owner.sessions.get(owner.sessions.store('carts'), id)?.ttlMs)).toEqual([7, 5])
    expect(() => store.commit('u-1', 'tea', -1)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }) as Error)
    expect(store.get('u-1')).toBe('milk')
  })

  it.each([0, 1, 2 ** 31, 2 ** 32 - 1])('commits its sessions with a time to live and a schema version of %i', (number) => {
    const { owner, open } = setUp()
    const store = open({ ttlMs: number, schemaVersion: number })
    store.commit('u-1', 'milk')
    expect(store.get('u-1')).toBe('milk')
    expect(owner.sessions.get(owner.sessions.store('carts'), 'u-1')).toMatchObject({ ttlMs: number, schemaVersion: number })
  })
})
