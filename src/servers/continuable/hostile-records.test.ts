/** A record comes out of a machine that failed: whatever it says, this one does not. */
import { createServer } from 'node:http'
import { setImmediate as turn } from 'node:timers/promises'
import { beforeAll, describe, expect, it } from 'vitest'
import { WebSocketServer } from 'ws'
import { Random } from '../../fabric/mock/random.js'
import { resetReasons } from '../../recovery/tcp/connection.js'
import { continuable, type Continuable } from './continuable.js'
import { decodeRecord, recordHeaderBytes } from './record.js'
import { planOf } from './take-over-connection.js'
import { clientFrame, serverFrames, upgradeRequest } from './testing/client-frames.js'
import { listening, pairOfSockets, PlayedNode } from './testing/harness.js'
import { everyInstant, undisturbed, type Instant, type Story } from './testing/instants.js'
import { continuableWebSockets } from './web-sockets.js'

const http: Story = {
  input: ['PUT /1 HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\nab', 'cdGET /2 HTTP/1.1\r\nHost: shop\r\n\r\n'],
  server: () => createServer((request, response) => {
    response.sendDate = false
    request.resume().on('end', () => {
      response.write('first ')
      setImmediate(() => response.end(`[${request.url}]`))
    }).on('error', () => undefined)
  }),
  isWhole: (output) => output.includes('[/2]'),
}
const chat: Story = {
  input: [upgradeRequest, clientFrame('text', 'one'), clientFrame('text', 'tw', false), clientFrame('continuation', 'o')],
  server: () => {
    const server = createServer()
    const sockets = new WebSocketServer({ server, perMessageDeflate: false })
    continuableWebSockets(sockets)
    return server.on('connection', (socket) => socket.on('error', () => undefined)) && (sockets.on('connection', (socket) => socket.on('error', () => undefined).on('message', (data: Buffer) => socket.send(data.toString()))), server)
  },
  isWhole: (output) => serverFrames(output).some(({ text }) => text === 'two'),
}
const random = new Random(1)
/** Below `bound`. */
const some = (bound: number): number => random.integer(0, bound - 1)
const flipped = (bytes: Buffer, bit: number): Buffer => {
  const copy = Buffer.from(bytes)
  copy[bit >> 3]! ^= 1 << (bit & 7)
  return copy
}
const whatIs = ({ decoded, written }: Instant): Parameters<typeof planOf>[1] => ({
  life: decoded.life.toString(16), read: decoded.inputAt + decoded.input.length - decoded.base.read, written: written - decoded.base.written, unacknowledged: 0,
})

describe.each([['HTTP', http], ['a WebSocket', chat]])('of %s', (_, story) => {
  let instants: readonly Instant[]
  beforeAll(async () => void (instants = (await undisturbed(story)).instants))

  it('each flipped bit is refused, or leaves a plan that keeps to what was decided', () => {
    const reasons = new Set<string>()
    const broken: string[] = []
    for (const instant of instants.filter((__, i) => i % 7 === 0)) {
      for (let bit = 0; bit < 8 * instant.record.length; bit++) {
        const record = decodeRecord(flipped(instant.record, bit))
        if (record === undefined) continue
        const plan = planOf(record, whatIs(instant))
        if (typeof plan === 'string') reasons.add(plan)
        else {
          const keeps = plan.written + plan.send.length <= record.outputEnd && record.literal.includes(plan.send) && plan.read === record.inputAt + record.input.length
          if (!keeps) broken.push(`bit ${bit}`)
        }
      }
    }
    expect(broken).toEqual([])
    expect([...reasons].filter((reason) => !(resetReasons as readonly string[]).includes(reason))).toEqual([])
    expect([...reasons]).toEqual(expect.arrayContaining(['no-record', 'input-missing', 'output-unknown']))
  })

  it('bytes that were drawn by chance are none', () => {
    let taken = 0
    for (let i = 0; i < 20_000; i++) {
      const bytes = Buffer.from(Array.from({ length: some(400) }, () => some(256)))
      if (bytes.length >= recordHeaderBytes) instants[0]!.record.copy(bytes, 0, 0, 8)
      const record = decodeRecord(bytes)
      if (record !== undefined && typeof planOf(record, whatIs(instants[0]!)) !== 'string') taken++
    }
    expect(taken).toBe(0)
  })

  it('a server that is given such a record resets the connection with a reason, or goes on, and lives', async () => {
    const node = new PlayedNode()
    const server = story.server()
    const connections: Continuable = continuable(server, node, { name: 'shop' })
    await listening(server)
    const tried = 300
    for (let i = 0; i < tried; i++) {
      const instant = instants[some(instants.length)]!
      const bit = some(8 * (i % 3 === 0 ? instant.record.length : recordHeaderBytes))
      const name = `client-${i}`
      node.records('shop').commit(name, i % 10 === 0 ? instant.record.subarray(0, some(instant.record.length)) : flipped(instant.record, bit))
      const [ours, theirs] = await pairOfSockets()
      const got: Buffer[] = []
      const closed = new Promise<void>((resolve) => ours.on('data', (bytes) => got.push(bytes)).on('error', () => undefined).on('close', () => resolve()))
      const outcome = node.onlyHandler({ ...whatIs(instant), name, socket: theirs, unread: 0 })
      for (let turns = 0; turns < 5; turns++) await turn()
      ours.end()
      theirs.destroy()
      const { reset } = await outcome
      await closed
      if (reset !== undefined && reset !== 'output-differs') expect(Buffer.concat(got).length, reset).toBe(0)
      if (reset !== undefined) expect(resetReasons).toContain(reset)
    }
    const { continued, reset } = connections.statistics
    expect(continued + Object.values(reset).reduce((sum, count) => sum + count, 0)).toBe(tried)
    expect(reset).toMatchObject({ garbage: expect.any(Number) as number, 'input-missing': expect.any(Number) as number, 'no-record': expect.any(Number) as number })
    server.close()
  })
})

it('input that the dead kernel had given out, and that nobody committed, is missing', async () => {
  const { run } = await everyInstant(http, 1)
  const { record, ...rest } = run.instants.at(-1)!
  const node = new PlayedNode()
  const server = http.server()
  continuable(server, node, { name: 'shop' })
  await listening(server)
  node.records('shop').commit('client', record)
  const [ours, theirs] = await pairOfSockets()
  ours.on('error', () => undefined)
  const is = whatIs({ record, ...rest })
  expect(await node.onlyHandler({ ...is, read: is.read + 1, name: 'client', socket: theirs, unread: 0 })).toEqual({ name: 'client', reset: 'input-missing' })
  server.close()
})
