/** What any store of express-session does. Ours passes it; that its own MemoryStore and connect-redis pass it as well shows that it asks for nothing else. */
import { Cookie, type SessionData, type Store } from 'express-session'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

export interface StoreUnderTest {
  readonly store: Store
  close(): Promise<void>
}

type Data = SessionData & Record<string, unknown>

/** A session as express-session makes them. @param maxAgeMs of its cookie; null = without end */
export function sessionWith(data: Record<string, unknown>, maxAgeMs: number | null = 3_600_000): Data {
  const cookie = new Cookie()
  cookie.maxAge = maxAgeMs as number
  return { cookie, ...data }
}

/** The store's methods as promises. */
export class Asked {
  constructor(readonly store: Store) {}

  get(sid: string): Promise<Data | undefined> {
    return new Promise((resolve, reject) => this.store.get(sid, (error, session) => (error ? reject(error as Error) : resolve((session ?? undefined) as Data | undefined))))
  }

  set(sid: string, session: SessionData): Promise<void> {
    return settled((done) => this.store.set(sid, session, done))
  }

  touch(sid: string, session: SessionData): Promise<void> {
    return settled((done) => this.store.touch?.(sid, session, done))
  }

  destroy(sid: string): Promise<void> {
    return settled((done) => this.store.destroy(sid, done))
  }

  clear(): Promise<void> {
    return settled((done) => this.store.clear?.(done))
  }

  length(): Promise<number | undefined> {
    return new Promise((resolve, reject) => this.store.length?.((error, length) => (error ? reject(error as Error) : resolve(length))))
  }

  /** Stores give a list or an object, and some put the ids into the sessions. @returns the `name` of each, in order */
  names(): Promise<unknown[]> {
    return new Promise((resolve, reject) =>
      this.store.all?.((error, all) => (error ? reject(error as Error) : resolve(Object.values(all ?? {}).map((session) => (session as Data)['name']).sort()))))
  }
}

const settled = (run: (done: (error?: Error | null) => void) => void): Promise<void> =>
  new Promise((resolve, reject) => run((error) => (error ? reject(error) : resolve())))

const pass = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** @param open makes an empty store */
export function storeSuite(name: string, open: () => Promise<StoreUnderTest>): void {
  let opened: StoreUnderTest
  let asked: Asked
  beforeEach(async () => {
    opened = await open()
    asked = new Asked(opened.store)
  })
  afterEach(() => opened.close())

  describe(`${name}: sessions`, () => {
    it('that nobody saved are not there, and that is no error', async () => {
      expect(await asked.get('nobody')).toBeUndefined()
      expect(await asked.length()).toBe(0)
      expect(await asked.names()).toEqual([])
    })

    it('come back as they were saved, cookie and all', async () => {
      const cart = { items: [{ sku: 'a-1', count: 2 }], note: 'für Elise 🎹', paid: false, total: 12.5, none: null }
      const session = sessionWith({ name: 'one', cart })
      session.cookie.path = '/shop'
      session.cookie.sameSite = 'lax'
      await asked.set('s1', session)
      const found = await asked.get('s1')
      expect(found).toMatchObject({ name: 'one', cart })
      expect(JSON.parse(JSON.stringify(found?.cookie))).toEqual(JSON.parse(JSON.stringify(session.cookie)))
    })

    it('are what was saved last', async () => {
      await asked.set('s1', sessionWith({ name: 'one', extra: 1 }))
      await asked.set('s1', sessionWith({ name: 'two' }))
      expect(await asked.get('s1')).toMatchObject({ name: 'two' })
      expect(await asked.get('s1')).not.toHaveProperty('extra')
      expect(await asked.length()).toBe(1)
    })

    it('are copies: neither what was saved nor what was read changes them', async () => {
      const session = sessionWith({ cart: ['book'] })
      await asked.set('s1', session)
      ;(session['cart'] as string[]).push('late')
      const found = await asked.get('s1')
      ;(found?.['cart'] as string[]).push('late')
      expect(await asked.get('s1')).toMatchObject({ cart: ['book'] })
    })

    it('that are destroyed are gone, and the others are not; to destroy what is not there is no error', async () => {
      await asked.set('s1', sessionWith({ name: 'one' }))
      await asked.set('s2', sessionWith({ name: 'two' }))
      await asked.destroy('s1')
      await asked.destroy('s1')
      expect(await asked.get('s1')).toBeUndefined()
      expect(await asked.get('s2')).toMatchObject({ name: 'two' })
      expect(await asked.names()).toEqual(['two'])
    })

    it('are counted, listed and cleared', async () => {
      for (const name of ['one', 'two', 'three']) await asked.set(name, sessionWith({ name }))
      expect(await asked.length()).toBe(3)
      expect(await asked.names()).toEqual(['one', 'three', 'two'])
      await asked.clear()
      expect(await asked.length()).toBe(0)
      expect(await asked.get('one')).toBeUndefined()
      await asked.clear()
    })

    it('may be many, saved at once', async () => {
      const names = Array.from({ length: 300 }, (_, i) => `n${i}`)
      await Promise.all(names.map((name) => asked.set(name, sessionWith({ name }))))
      const found = await Promise.all(names.map((name) => asked.get(name)))
      expect(found.map((session) => session?.['name'])).toEqual(names)
    })

    it('are saved and destroyed without a callback as well', async () => {
      opened.store.set('s1', sessionWith({ name: 'one' }))
      while ((await asked.get('s1')) === undefined) await pass(1)
      opened.store.destroy('s1')
      while ((await asked.get('s1')) !== undefined) await pass(1)
      expect(await asked.length()).toBe(0)
    })
  })

  describe(`${name}: time`, () => {
    it('ends a session with its cookie, and no sooner', async () => {
      const endsAtMs = Date.now() + 1500
      await asked.set('s1', sessionWith({ name: 'one' }, endsAtMs - Date.now()))
      await asked.set('s2', sessionWith({ name: 'two' }))
      const before = await asked.get('s1')
      if (Date.now() < endsAtMs) expect(before).toMatchObject({ name: 'one' })
      while ((await asked.get('s1')) !== undefined) await pass(20)
      expect(Date.now()).toBeGreaterThanOrEqual(endsAtMs - 1)
      expect(await asked.names()).toEqual(['two'])
    })

    it('does not end a session whose cookie has no end', async () => {
      await asked.set('s1', sessionWith({ name: 'one' }, null))
      expect(await asked.get('s1')).toMatchObject({ name: 'one' })
    })

    it('begins anew with a touch, which leaves the data alone', async () => {
      const endsAtMs = Date.now() + 1500
      await asked.set('s1', sessionWith({ name: 'one' }, endsAtMs - Date.now()))
      await asked.touch('s1', sessionWith({ name: 'not saved' }, 3_600_000))
      while (Date.now() < endsAtMs + 1000) await pass(50)
      expect(await asked.get('s1')).toMatchObject({ name: 'one' })
    })

    it('is not given by a touch to a session that is not there', async () => {
      await asked.touch('s1', sessionWith({ name: 'one' }))
      expect(await asked.get('s1')).toBeUndefined()
    })
  })
}
