import { readFileSync } from 'node:fs'
import { createServer, type RequestListener } from 'node:http'
import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { everyInstant, everySecondInstant, type Ended, type Story } from '../src/servers/continuable/testing/instants.js'
import { serveEvents, type Feed } from './event-stream.js'

const events = ['one', 'two', 'three\ndata: and its second line', 'four', 'five']
const text = (name: string): string => readFileSync(new URL(name, import.meta.url), 'utf8')

/** A feed in which nothing more happens after the last event. */
function feed(): { feed: Feed; asked: number[] } {
  const asked: number[] = []
  return { asked, feed: { event: async (number) => {
    asked.push(number)
    await turn()
    return events[number - 1] ?? new Promise<never>(() => undefined)
  } } }
}

const story = (handler: RequestListener, headers = ''): Story => ({
  input: [`GET /events HTTP/1.1\r\nHost: shop\r\n${headers}\r\n`],
  server: () => createServer((request, response) => {
    response.sendDate = false
    handler(request, response)
  }),
  isWhole: (output) => output.includes('id: 5\ndata: five\n\n\r\n'),
})
const told = (output: Buffer): string[] => [...output.toString().matchAll(/^id: (\d+)$/gm)].map(([, id]) => id as string)

function expectSame(ends: readonly Ended[], output: Buffer): void {
  expect(ends.length).toBeGreaterThan(100)
  for (const end of ends) expect([end.reset, end.output.toString()]).toEqual([undefined, output.toString()])
}

describe('server-sent events', () => {
  it('go on behind the last one that was told, at whatever instant the machine fails', async () => {
    const { feed: source, asked } = feed()
    const { run, ends } = await everyInstant(story((request, response) => void serveEvents(request, response, source)))
    expectSame(ends, run.output)
    expect(told(run.output)).toEqual(['1', '2', '3', '4', '5'])
    expect(run.output.toString()).toContain('content-type: text/event-stream')
    const begun = (number: number): number => asked.filter((one) => one === number).length
    expect(begun(1)).toBeLessThan(begun(3))
    expect(begun(3)).toBeLessThan(begun(5))
  })

  it('begin behind the one that the client names', async () => {
    const { feed: source, asked } = feed()
    const { run, ends } = await everyInstant(story((request, response) => void serveEvents(request, response, source), 'Last-Event-ID: 2\r\n'))
    expectSame(ends, run.output)
    expect(told(run.output)).toEqual(['3', '4', '5'])
    expect(Math.min(...asked)).toBe(3)
  })

  it('go on when the second machine fails, too', async () => {
    const { feed: source } = feed()
    const { run, ends } = await everySecondInstant(story((request, response) => void serveEvents(request, response, source)), { first: 12, second: 12 })
    expectSame(ends, run.output)
  })

  it('are made anew from the first one on, and compared, by a handler that knows nothing of this', async () => {
    const { feed: source, asked } = feed()
    const { run, ends } = await everyInstant(story((_, response) => void (async () => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      for (let number = 1; ; number++) response.write(`id: ${number}\ndata: ${await source.event(number)}\n\n`)
    })()), 150)
    expectSame(ends, run.output)
    expect(asked.filter((number) => number === 1)).toHaveLength(ends.length + 1)
  })

  it('are served in docs/continuable.md as they are here', () => {
    expect(text('../docs/continuable.md')).toContain(`\`\`\`ts\n${text('./event-stream.ts')}\`\`\`\n`)
  })
})
