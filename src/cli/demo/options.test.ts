import { describe, expect, it } from 'vitest'
import { parseFlags, type DemoFlags } from './options.js'

const parse = (flags: Partial<DemoFlags>): ReturnType<typeof parseFlags> => parseFlags({ nodes: '3', sessions: '200', ...flags }, () => 42)

describe('the options of the demo', () => {
  it('have defaults', () => {
    expect(parse({})).toEqual({ failure: 'kill', nodes: 3, sessions: 200, seed: 42, json: false, canary: undefined })
    expect(parse({ canary: 'fence' }).failure).toBe('stop')
    expect(parse({ seed: '7' }).seed).toBe(7)
  })

  it.each<[Partial<DemoFlags>, string]>([
    [{ failure: 'explode' }, 'failure'],
    [{ nodes: '1' }, 'nodes'],
    [{ nodes: 'many' }, 'nodes'],
    [{ sessions: '2' }, 'sessions'],
    [{ sessions: '1e3' }, 'sessions'],
    [{ seed: '-1' }, 'seed'],
    [{ canary: 'luck' }, 'canary'],
    [{ canary: 'fence', failure: 'kill' }, 'canary'],
    [{ canary: 'claim', nodes: '2' }, 'canary'],
  ])('%o is refused, by the name of the option', (flags, field) => {
    expect(() => parse(flags)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', details: expect.objectContaining({ field }) as unknown }))
  })
})
