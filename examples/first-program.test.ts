import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it, vi } from 'vitest'

const text = (name: string): string => readFileSync(new URL(name, import.meta.url), 'utf8')

describe('the first program', () => {
  it('recovers the session of a server that hangs, and leaves nothing behind', async () => {
    const printed = vi.spyOn(console, 'log').mockImplementation(() => undefined)
    await import('./first-program.js')
    expect(printed.mock.calls).toEqual([['u-17 came over from a:', { items: ['book'] }]])
    expect(readdirSync('/dev/shm').filter((name) => name.startsWith('first-program-'))).toEqual([])
  })

  it('stands in the README as it is', () => {
    expect(text('../README.md')).toContain(`\`\`\`ts\n${text('./first-program.ts')}\`\`\`\n`)
  })
})
