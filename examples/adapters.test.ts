import { readdirSync, readFileSync } from 'node:fs'
import { afterEach, describe, expect, it, vi } from 'vitest'

const text = (name: string): string => readFileSync(new URL(name, import.meta.url), 'utf8')

afterEach(() => void vi.restoreAllMocks())

async function printedBy(run: () => Promise<unknown>): Promise<unknown[][]> {
  const printed = vi.spyOn(console, 'log').mockImplementation(() => undefined)
  await run()
  expect(readdirSync('/dev/shm').filter((name) => name.startsWith('two-nodes-'))).toEqual([])
  return printed.mock.calls
}

describe('the examples of adapters', () => {
  it('express-sessions: a cart is still there at the other node', async () => {
    expect(await printedBy(() => import('./express-sessions.js'))).toEqual([['The other node says:', 'book, pen']])
  })

  it('socket-io: a client recovers at the other node, and hears what it has missed, in order and once', async () => {
    expect(await printedBy(() => import('./socket-io.js'))).toEqual([['The client has recovered:', ['welcome', 'one', 'two', 'go on']]])
  })

  it('mqtt-broker: a message that waits comes from the other node', async () => {
    expect(await printedBy(() => import('./mqtt-broker.js'))).toEqual([['The other node owes the panel', 'heat/hall: 21 degrees']])
  })

  it.each(['express-sessions', 'socket-io', 'mqtt-broker'])('%s stands in docs/adapters.md as it is', (name) => {
    expect(text('../docs/adapters.md')).toContain(`\`\`\`ts\n${text(`./${name}.ts`)}\`\`\`\n`)
  })
})
