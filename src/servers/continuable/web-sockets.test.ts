import { createServer, type IncomingMessage } from 'node:http'
import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { WebSocketServer, type WebSocket } from 'ws'
import { checkpoint, continuationOf } from './requests.js'
import { clientFrame, serverFrames, upgradeRequest } from './testing/client-frames.js'
import { everyInstant, everySecondInstant, type Ended, type Story } from './testing/instants.js'
import { continuableWebSockets, messageKey } from './web-sockets.js'

const chat = (onConnection: (socket: WebSocket, request: IncomingMessage) => void, sockets: object = {}): Story['server'] => () => {
  const server = createServer()
  const webSockets = new WebSocketServer({ server, perMessageDeflate: false, ...sockets })
  continuableWebSockets(webSockets)
  webSockets.on('connection', (socket, request) => {
    socket.on('error', () => undefined)
    onConnection(socket, request)
  })
  return server
}
/** Parts of 1 to 12 bytes, the same in every run. */
const inParts = (bytes: Buffer): Buffer[] => {
  const parts: Buffer[] = []
  for (let at = 0, size = 3; at < bytes.length; at += size, size = (size * 7 + 4) % 12 + 1) parts.push(bytes.subarray(at, at + size))
  return parts
}
const texts = (output: Buffer): string[] => serverFrames(output).map(({ text }) => text)
const ends = (last: string): Story['isWhole'] => (output) => texts(output).includes(last)
const resets = (all: readonly Ended[]): string[] => [...new Set(all.flatMap(({ reset }) => reset ?? []))]

function expectSame(all: readonly Ended[], output: Buffer): void {
  expect(all.length).toBeGreaterThan(50)
  for (const { output: got, instant } of all) expect(got.toString('latin1'), `${instant.written} written, ${instant.decoded.inputAt}+${instant.decoded.input.length} read`).toBe(output.toString('latin1'))
  expect(resets(all)).toEqual([])
}

describe('at every instant, a client of a WebSocket gets the frames of an undisturbed run', () => {
  it('of messages that come in parts', async () => {
    const server = chat((socket) => socket.on('message', (data: Buffer) => socket.send(`[${data.toString()}]`)))
    const input = [upgradeRequest, ...inParts(Buffer.concat([clientFrame('text', 'one'), clientFrame('binary', 'two'), clientFrame('text', 'three')]))]
    const { run, ends: all } = await everyInstant({ input, server, isWhole: ends('[three]') })
    expectSame(all, run.output)
    expect(texts(run.output)).toEqual(['[one]', '[two]', '[three]'])
    expect(all.at(-1)!.instant.decoded.input.length).toBe(0)
  })

  it.each([true, false])('of several messages in one chunk, behind the request itself (allowSynchronousEvents %s)', async (allowSynchronousEvents) => {
    const server = chat((socket) => socket.on('message', (data: Buffer) => socket.send(`[${data.toString()}]`)), { allowSynchronousEvents })
    const input = [Buffer.concat([Buffer.from(upgradeRequest), clientFrame('text', 'one'), clientFrame('text', 'two')]), Buffer.concat([clientFrame('ping', 'ping'), clientFrame('text', 'x'.repeat(200)), clientFrame('text', 'end')])]
    const { run, ends: all } = await everyInstant({ input, server, isWhole: ends('[end]') })
    expectSame(all, run.output)
    expect(texts(run.output)).toEqual(['[one]', '[two]', 'ping', `[${'x'.repeat(200)}]`, '[end]'])
  })

  it('of a message in fragments, with control frames between them', async () => {
    const server = chat((socket) => socket.on('message', (data: Buffer) => socket.send(`[${data.toString()}]`)))
    const frames = [clientFrame('text', 'frag', false), clientFrame('ping', 'p1'), clientFrame('continuation', 'men', false), clientFrame('pong', ''), clientFrame('ping', 'p2'), clientFrame('continuation', 'ted'), clientFrame('ping', 'p3'), clientFrame('text', 'end')]
    const { run, ends: all } = await everyInstant({ input: [upgradeRequest, ...inParts(Buffer.concat(frames))], server, isWhole: ends('[end]') })
    expectSame(all, run.output)
    expect(texts(run.output)).toEqual(['p1', 'p2', '[fragmented]', 'p3', '[end]'])
  })

  it('up to the answer to its close frame', async () => {
    const server = chat((socket) => socket.on('message', (data: Buffer) => socket.send(`[${data.toString()}]`)))
    const close = Buffer.from([0x03, 0xe8, 0x62, 0x79, 0x65])
    const { run, ends: all } = await everyInstant({ input: [upgradeRequest, clientFrame('text', 'one'), clientFrame('close', close)], server, isWhole: (output) => serverFrames(output).some(({ opcode }) => opcode === 8) })
    expectSame(all, run.output)
  })

  it('that begins with what its server says first, which is not said again', async () => {
    const server = chat((socket) => {
      socket.send('welcome')
      socket.on('message', (data: Buffer) => socket.send(`[${data.toString()}]`))
    })
    const { run, ends: all } = await everyInstant({ input: [upgradeRequest, clientFrame('text', 'one'), clientFrame('text', 'two')], server, isWhole: ends('[two]') })
    expectSame(all, run.output)
    expect(texts(run.output)).toEqual(['welcome', '[one]', '[two]'])
  })

  it.each([64 << 10, 100])('of answers in several frames that are long, with literals of up to %i bytes', async (maxLiteralBytes) => {
    const server = chat((socket) => socket.on('message', (data: Buffer) => {
      for (const part of ['a', 'b']) socket.send(`[${data.toString()} ${part.repeat(300)}]`)
    }))
    const { run, ends: all } = await everyInstant({ input: [upgradeRequest, clientFrame('text', 'one'), clientFrame('text', 'two')], server, options: { maxLiteralBytes }, isWhole: ends(`[two ${'b'.repeat(300)}]`) })
    for (const { output, reset } of all) if (reset === undefined) expect(output.toString('latin1')).toBe(run.output.toString('latin1'))
    expect(resets(all)).toEqual([])
  })

  it('of handlers that wait before they answer', async () => {
    const server = chat((socket) => {
      let before: Promise<void> = Promise.resolve()
      // eslint-disable-next-line @typescript-eslint/no-misused-promises -- a message is done with when its promise is
      socket.on('message', (data: Buffer) => before = before.then(async () => {
        socket.send(`(${data.toString()}`)
        await turn()
        socket.send(`${data.toString()})`)
      }))
    })
    const input = [upgradeRequest, ...inParts(clientFrame('text', 'one')), Buffer.concat([clientFrame('text', 'two'), clientFrame('text', 'end')])]
    const { run, ends: all } = await everyInstant({ input, server, isWhole: ends('end)') })
    expectSame(all, run.output)
    expect(texts(run.output)).toEqual(['(one', 'one)', '(two', 'two)', '(end', 'end)'])
  })
})

it.each([64 << 10, 20])('when the second machine fails, too, whose kernel takes nothing at once, the frames are the same (literals of up to %i bytes)', async (maxLiteralBytes) => {
  const server = chat((socket) => {
    socket.send('welcome')
    socket.on('message', (data: Buffer) => {
      for (let part = 0; part < 3; part++) socket.send(`[${data.toString()} ${String(part).repeat(10 * part)}]`)
    })
  })
  const input = [upgradeRequest, ...['one', 'two', 'three', 'four'].map((text) => clientFrame('text', text))]
  const { run, ends: all } = await everySecondInstant({ input, server, options: { maxLiteralBytes }, isWhole: ends(`[four ${'2'.repeat(20)}]`) }, { first: 16, second: 16 })
  if (maxLiteralBytes > 20) return expectSame(all, run.output)
  // Where a message's checkpoint lies within one write that is not kept, the kernel may not have come to it.
  expect(resets(all)).toEqual(['output-unknown'])
  for (const { output, reset } of all) expect(run.output.subarray(0, reset === undefined ? undefined : output.length).equals(output)).toBe(true)
})

describe('a message that is given again', () => {
  it('has the key that it had, so that it happens once', async () => {
    const effects = new Map<string, string>()
    let again = 0
    const server = chat((socket) => socket.on('message', (data: Buffer) => {
      // Each instant goes on under a name of its own: the rest of the key is the connection's for all of its life.
      const key = messageKey(socket).replace(/^.* (?=\S+ \S+$)/, '')
      if (effects.has(key)) again++
      else effects.set(key, `${data.toString()} is no. ${effects.size + 1}`)
      socket.send(effects.get(key)!)
    }))
    const input = [upgradeRequest, clientFrame('text', 'one', false), clientFrame('ping', ''), clientFrame('continuation', '.'), Buffer.concat([clientFrame('text', 'two'), clientFrame('text', 'three')])]
    const { run, ends: all } = await everyInstant({ input, server, isWhole: ends('three is no. 3') })
    expectSame(all, run.output)
    expect([...effects.values()]).toEqual(['one. is no. 1', 'two is no. 2', 'three is no. 3'])
    expect([...effects.keys()].every((key) => /^[0-9a-f]{16} m\d+$/.test(key))).toBe(true)
    expect(again).toBeGreaterThan(0)
  })

  it('has no key outside of its handler', async () => {
    const codes: unknown[] = []
    const server = chat((socket) => {
      try {
        messageKey(socket)
      } catch (error) {
        codes.push((error as { code?: unknown }).code)
      }
      socket.on('message', () => socket.send('end'))
    })
    await everyInstant({ input: [upgradeRequest, clientFrame('text', 'one')], server, isWhole: ends('end') }, 1)
    expect(new Set(codes)).toEqual(new Set(['INVALID_ARGUMENT']))
  })
})

describe('what a server sends on its own', () => {
  it('is sent once, whatever message is under way', async () => {
    const server = chat((socket, request) => {
      // One in each turn, as each turn brings a part of what the client says: all are over before that is.
      const send = (tick: number): void => {
        socket.send(`tick ${tick}`)
        if (tick < 2) setImmediate(send, tick + 1)
      }
      if (continuationOf(request) === undefined) setImmediate(send, 0)
      socket.on('message', (data: Buffer) => socket.send(`[${data.toString()}]`))
    })
    const input = [upgradeRequest, ...inParts(Buffer.concat([clientFrame('text', 'fr', false), clientFrame('ping', 'p'), clientFrame('continuation', 'ag')])), clientFrame('text', 'end')]
    const { run, ends: all } = await everyInstant({ input, server, awaits: ends('tick 2'), isWhole: ends('[end]') })
    expect(texts(run.output)).toContain('tick 2')
    expect(resets(all)).toEqual([])
    for (const { output, instant } of all) {
      const got = texts(output)
      expect(new Set(got).size).toBe(got.length)
      expect(got).toEqual(expect.arrayContaining(['p', '[frag]', '[end]']))
      expect(output.subarray(0, Math.max(0, instant.written)).equals(run.output.subarray(0, Math.max(0, instant.written)))).toBe(true)
    }
  })
})

describe('what the application says', () => {
  it('makes a checkpoint with a state, midway in a handler', async () => {
    const states = new Set<string | undefined>()
    const server = chat((socket, request) => {
      const before = continuationOf(request)?.state
      states.add(before && Buffer.from(before).toString())
      socket.on('message', (data: Buffer) => {
        socket.send(`[${data.toString()}]`)
        expect(checkpoint(socket, data)).toBe(true)
      })
    })
    const { run, ends: all } = await everyInstant({ input: [upgradeRequest, clientFrame('text', 'one'), clientFrame('text', 'two')], server, isWhole: ends('[two]') })
    for (const { output, reset } of all) {
      if (reset === undefined) expect(output.equals(run.output)).toBe(true)
    }
    expect(states).toEqual(new Set([undefined, 'one', 'two']))
  })

  it('may not be that messages are compressed', () => {
    const server = createServer()
    expect(() => continuableWebSockets(new WebSocketServer({ server, perMessageDeflate: true }))).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', details: { field: 'perMessageDeflate' } }))
  })
})

it('a server that says goodbye first is not continued after that', async () => {
  const server = chat((socket) => socket.on('message', () => socket.close(1000)))
  const { run, ends: all } = await everyInstant({ input: [upgradeRequest, clientFrame('text', 'one')], server, isWhole: (output) => serverFrames(output).some(({ opcode }) => opcode === 8) })
  expect(resets(all)).toEqual(['not-continuable'])
  for (const { output, reset } of all) {
    if (reset === undefined) expect(output.equals(run.output)).toBe(true)
    else expect(run.output.toString('latin1').startsWith(output.toString('latin1'))).toBe(true)
  }
})
