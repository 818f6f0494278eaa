import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { exitCodeOf } from './cli/exit-codes.js'
import { asBackdoorsError, BackdoorsError, errorCodes, isBackdoorsError, workCompletionCodes, workCompletionStatuses, type ErrorDetails } from './errors.js'

const page = readFileSync(new URL('../docs/errors.md', import.meta.url), 'utf8')
const documented = new Map(
  [...page.matchAll(/^\| `([A-Z_]+)` \| (.+?) \| (.+?) \| (\d) \|$/gm)].map(([, code, meaning, mend, exit]) => [code, { meaning, mend, exit: Number(exit) }]),
)

/** One value of every field of the details. */
const allDetails: Required<ErrorDetails> = {
  peer: 'b', offset: 4096, length: 64, address: 0x7f00_0000_1000n, vendorError: 129, queuePair: 17, errno: 12, errnoName: 'ENOMEM',
  call: 'ibv_reg_mr', path: '/dev/shm/backdoors-b', interface: 'eth0', box: 3, store: 'carts', sessionId: 'u-17', field: 'peers[0].name',
}

describe.each(errorCodes)('%s', (code) => {
  it('is documented once, with its meaning, what to do and its exit code', () => {
    const entry = documented.get(code)
    expect(entry?.meaning).toMatch(/\w+/)
    expect(entry?.mend).toMatch(/\w+/)
    expect(entry?.exit).toBe(exitCodeOf(new BackdoorsError(code, '')))
    expect(page.split(`| \`${code}\` |`)).toHaveLength(2)
  })

  it('keeps its code, message, details and cause', () => {
    const cause = new Error('beneath')
    const error = new BackdoorsError(code, 'what was done to whom', { ...allDetails, cause })
    expect(error).toBeInstanceOf(Error)
    expect(error).toMatchObject({ name: 'BackdoorsError', code, message: 'what was done to whom', cause })
    expect(error.details).toEqual(allDetails)
    expect(isBackdoorsError(error, code)).toBe(true)
    expect(isBackdoorsError(error, ...errorCodes.filter((other) => other !== code))).toBe(false)
  })

  it('reads as plain JSON', () => {
    const error = new BackdoorsError(code, 'what was done to whom', { ...allDetails, cause: new Error('beneath') })
    expect(JSON.parse(JSON.stringify(error))).toEqual({ code, message: 'what was done to whom', ...allDetails, address: '0x7f0000001000', cause: 'beneath' })
  })
})

describe('the codes', () => {
  it('are those of docs/errors.md, in its order', () => {
    expect([...documented.keys()]).toEqual([...errorCodes])
  })

  it('are all different', () => {
    expect(new Set(errorCodes).size).toBe(errorCodes.length)
  })

  it('hold every status of a work completion but success', () => {
    expect(workCompletionCodes).toEqual(workCompletionStatuses.slice(1))
    expect(errorCodes).toEqual(expect.arrayContaining(workCompletionCodes))
  })
})

describe('BackdoorsError without options', () => {
  it('has no details and no cause', () => {
    const error = new BackdoorsError('CLOSED', 'it was closed')
    expect(error.details).toEqual({})
    expect('cause' in error).toBe(false)
    expect(error.toJSON()).toEqual({ code: 'CLOSED', message: 'it was closed' })
  })
})

describe('asBackdoorsError', () => {
  it('leaves one of ours as it is', () => {
    const error = new BackdoorsError('FENCED', 'fenced')
    expect(asBackdoorsError(error, 'TIMEOUT', 'reading')).toBe(error)
  })

  it('takes what was thrown as the cause, and says what was being done', () => {
    const cause = new Error('no such file')
    expect(asBackdoorsError(cause, 'REGION_NOT_FOUND', 'open /x', { path: '/x' })).toMatchObject({ code: 'REGION_NOT_FOUND', message: 'open /x: no such file', details: { path: '/x' }, cause })
  })

  it('takes what is no Error as well', () => {
    expect(asBackdoorsError('text', 'TIMEOUT', 'reading')).toMatchObject({ code: 'TIMEOUT', message: 'reading: text', cause: 'text' })
  })
})

describe('isBackdoorsError', () => {
  it('knows ours from others', () => {
    expect(isBackdoorsError(new BackdoorsError('CLOSED', ''))).toBe(true)
    expect(isBackdoorsError(Object.assign(new Error(''), { code: 'CLOSED' }))).toBe(false)
    expect(isBackdoorsError(undefined)).toBe(false)
  })
})
