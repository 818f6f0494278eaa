/** The site on loopback, in front of routers that fail. */
import { once } from 'node:events'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import type { Router } from './router.js'
import { createSite } from './site.js'

let site: Server | undefined
let failed: unknown[] = []

afterEach(() => {
  site?.close()
  site?.closeAllConnections()
  failed = []
})

async function statusAfter(error: Error): Promise<{ status: number; retryAfter: string | null }> {
  const router = { answer: () => Promise.reject(error) } as unknown as Router
  site = createSite({ router, isFenced: () => false, onFailed: (each) => failed.push(each) })
  site.listen(0, '127.0.0.1')
  await once(site, 'listening')
  const response = await fetch(`http://127.0.0.1:${(site.address() as AddressInfo).port}/`)
  return { status: response.status, retryAfter: response.headers.get('retry-after') }
}

describe('a request that fails', () => {
  it('may be sent again where the database or the session store is the reason', async () => {
    const error = new Error('Connection terminated unexpectedly')
    expect(await statusAfter(error)).toEqual({ status: 503, retryAfter: '1' })
    expect(failed).toEqual([error])
  })

  it.each([new TypeError('visit is not iterable'), new RangeError('Invalid count value'), new ReferenceError('x is not defined')])('by a mistake in this program is over: %s', async (error) => {
    expect(await statusAfter(error)).toEqual({ status: 500, retryAfter: null })
    expect(failed).toEqual([error])
  })
})
