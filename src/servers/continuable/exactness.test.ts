import { createServer, type RequestListener } from 'node:http'
import { createServer as createNetServer, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { checkpoint, continuationOf, isReplay, requestKey } from './requests.js'
import { everyInstant, everySecondInstant, type Ended, type Story } from './testing/instants.js'

const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: shop\r\n\r\n`
const quiet = (handler: RequestListener): Story['server'] => () => createServer((request, response) => {
  response.sendDate = false
  handler(request, response)
})
/** Parts of 1 to 40 bytes, the same in every run. */
const inParts = (text: string): string[] => {
  const parts: string[] = []
  for (let at = 0, size = 7; at < text.length; at += size, size = (size * 17 + 5) % 40 + 1) parts.push(text.slice(at, at + size))
  return parts
}
const holds = (text: string, count = 1): Story['isWhole'] => (output) => output.toString('latin1').split(text).length === count + 1
const resets = (ends: readonly Ended[]): string[] => [...new Set(ends.flatMap(({ reset }) => reset ?? []))]

function expectExact(ends: readonly Ended[], output: Buffer): void {
  for (const end of ends) {
    const where = `${end.instant.written} written, ${end.instant.decoded.inputAt}+${end.instant.decoded.input.length} read`
    if (end.reset === undefined) expect(end.output.toString('latin1'), where).toBe(output.toString('latin1'))
    else expect(output.toString('latin1').startsWith(end.output.toString('latin1')), where).toBe(true)
  }
}

describe('at every instant, a client gets the bytes of an undisturbed run', () => {
  it('of requests one after the other, whose heads come in parts', async () => {
    const server = quiet((request, response) => void response.end(`[${request.url}]`))
    const { run, ends } = await everyInstant({ input: [...inParts(get('/1')), get('/2'), ...inParts(get('/3'))], server, isWhole: holds('[/3]') })
    expectExact(ends, run.output)
    expect(resets(ends)).toEqual([])
  })

  it('of pipelined requests, answered out of turn', async () => {
    const server = quiet((request, response) => {
      const answer = (): void => void response.end(`[${request.url}]`)
      if (request.url === '/2') answer()
      else setImmediate(answer)
    })
    const { run, ends } = await everyInstant({ input: [get('/1') + get('/2') + get('/3').slice(0, 9), get('/3').slice(9) + get('/4')], server, isWhole: holds('[/4]') })
    expectExact(ends, run.output)
    expect(resets(ends)).toEqual([])
  })

  it.each([64 << 10, 16])('of a chunked response that is made in parts, with literals of up to %i bytes', async (maxLiteralBytes) => {
    const server = quiet((_, response) => void (async () => {
      for (const part of ['first part', 'the second part, which is longer', 'third']) {
        response.write(part)
        await turn()
      }
      response.end('last')
    })())
    const { run, ends } = await everyInstant({ input: [get('/')], server, options: { maxLiteralBytes }, isWhole: holds('\r\n0\r\n\r\n') })
    expectExact(ends, run.output)
    expect(resets(ends)).toEqual([])
  })

  it('of a large response of known length, by its digest, with another request after it', async () => {
    const body = 'x'.repeat(3000) + 'end of 1'
    const server = quiet((request, response) => void response.end(request.url === '/1' ? body : '[/2]'))
    const { run, ends } = await everyInstant({ input: [get('/1'), get('/2')], server, options: { maxLiteralBytes: 200 }, isWhole: holds('[/2]') }, 200)
    expectExact(ends, run.output)
    expect(resets(ends)).toEqual([])
  })

  it.each(['Content-Length: 22\r\n\r\nabcdefghijklmnopqrstuv', 'Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nabcde\r\n11\r\nfghijklmnopqrstuv\r\n0\r\nT: 1\r\n\r\n'])('of an upload: %j', async (rest) => {
    const server = quiet((request, response) => {
      let body = ''
      request.setEncoding('utf8').on('data', (text: string) => void (body += text)).on('end', () => response.end(`[${body}]`))
    })
    const { run, ends } = await everyInstant({ input: inParts(`PUT / HTTP/1.1\r\nHost: shop\r\n${rest}${get('/2')}`), server, isWhole: holds('[]') })
    expectExact(ends, run.output)
    expect(resets(ends)).toEqual([])
  })

  it('of a request that waits for 100 Continue', async () => {
    const server = quiet((request, response) => {
      let body = ''
      request.setEncoding('utf8').on('data', (text: string) => void (body += text)).on('end', () => response.end(`[${body}]`))
    })
    const { run, ends } = await everyInstant({ input: ['PUT / HTTP/1.1\r\nHost: shop\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n', 'ab', 'cd'], server, isWhole: holds('[abcd]') })
    expectExact(ends, run.output)
    expect(run.output.toString()).toMatch(/^HTTP\/1.1 100 Continue/)
    expect(resets(ends)).toEqual([])
  })
})

describe('a response made anew', () => {
  it('keeps the head that was sent, where only volatile headers differ', async () => {
    let made = 0
    const server = (): ReturnType<Story['server']> => createServer((_, response) => {
      response.setHeader('date', `run ${String(made++).padStart(6, '0')}`)
      response.write('first')
      setImmediate(() => response.end('last'))
    })
    const { run, ends } = await everyInstant({ input: [get('/')], server, isWhole: holds('\r\n0\r\n\r\n') })
    const withoutDate = (bytes: Buffer): string => bytes.toString('latin1').replace(/date: run \d+/i, '')
    for (const { output } of ends) expect(withoutDate(output)).toBe(withoutDate(run.output))
    expect(resets(ends)).toEqual([])
  })

  it('ends the connection before a wrong byte where it is another', async () => {
    let made = 0
    const server = quiet((_, response) => {
      const run = made++
      response.write('same')
      setImmediate(() => {
        response.write(`run ${run}`)
        setImmediate(() => response.end('last'))
      })
    })
    const { run, ends } = await everyInstant({ input: [get('/')], server, isWhole: holds('\r\n0\r\n\r\n') })
    const firstWrite = run.output.indexOf('run 0')
    for (const { reset, output, instant } of ends) {
      if (instant.written <= 0 || !output.includes('run 0')) continue
      if (reset === undefined) expect(output.toString()).toBe(run.output.toString())
    }
    expect(resets(ends)).toEqual(['output-differs'])
    for (const { reset, output, instant } of ends) if (reset !== undefined) {
      expect(instant.decoded.outputEnd).toBeGreaterThan(firstWrite)
      expect(run.output.toString().startsWith(output.toString())).toBe(true)
    }
  })
})

describe('a request with a side effect', () => {
  const post = 'POST /order HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\nab'
  const story = (effects: string[], options: Story['options'] = {}): Story => ({
    input: inParts(post),
    server: quiet((request, response) => {
      request.resume().on('end', () => {
        effects.push(`${requestKey(request).split(' ').slice(-2).join(' ')} ${isReplay(request)}`)
        setImmediate(() => response.end('[done]'))
      })
    }),
    options, isWhole: holds('[done]'), observe: () => effects.length,
  })

  it('never happens twice: the connection is reset where that cannot be told', async () => {
    const effects: string[] = []
    const { run, ends } = await everyInstant(story(effects))
    expectExact(ends, run.output)
    expect(resets(ends)).toEqual(['not-repeatable'])
    const [first, ...others] = effects
    expect(first).toMatch(/false$/)
    // Run again only where the failed machine had not even all of its head.
    expect(others.every((effect) => effect.endsWith('false'))).toBe(true)
    expect(others).toHaveLength(ends.filter(({ reset, instant }) => reset === undefined && instant.observed === 0).length)
    for (const { reset, instant } of ends) if (reset === undefined && instant.observed > 0) expect(instant.decoded.outputEnd).toBe(run.output.length)
  })

  it('has a key of its own, and so has the next one, wherever its machine fails', async () => {
    const keys = new Map<string, Set<string>>()
    const server = quiet((request, response) => {
      const url = request.url as string
      keys.set(url, (keys.get(url) ?? new Set()).add(requestKey(request).split(' ').at(-1) as string))
      response.end('x'.repeat(100) + `[${url}]`)
    })
    const { run, ends } = await everyInstant({ input: [get('/1'), get('/2') + get('/3')], server, options: { maxLiteralBytes: 50 }, isWhole: holds('[/3]') })
    expectExact(ends, run.output)
    expect(keys).toEqual(new Map([['/1', new Set(['0'])], ['/2', new Set(['1'])], ['/3', new Set(['2'])]]))
  })

  const upgrading = (header: string): string => `POST /order HTTP/1.1\r\nHost: shop\r\nUpgrade: foo\r\n${header}\r\n\r\n`
  const onUpgrade = (handle: (socket: Duplex) => void, effects: string[]): Story['server'] => () => createServer((_, response) => {
    response.sendDate = false
    effects.push('request')
    setImmediate(() => response.end('[done]'))
  }).on('upgrade', (_, socket: Duplex) => {
    effects.push('upgrade')
    handle(socket.on('error', () => undefined))
  })
  const switching = (socket: Duplex): void => void setImmediate(() => socket.write('HTTP/1.1 101 Switching Protocols\r\n\r\n[done]'))

  it.each(['Connection: x-upgrade', 'Connection: upgrade-insecure, close', 'Connection: keep-alive upgrade', 'Connection: upgrade\t'])('never happens twice where it looks like one for another protocol: %j', async (header) => {
    const effects: string[] = []
    const { run, ends } = await everyInstant({ input: inParts(upgrading(header)), server: onUpgrade(switching, effects), isWhole: holds('[done]'), observe: () => effects.length })
    expect(new Set(effects)).toEqual(new Set(['request']))
    expectExact(ends, run.output)
    expect(resets(ends)).toEqual(['not-repeatable'])
    for (const { reset, instant } of ends) if (reset === undefined && instant.observed > 0) expect(instant.decoded.outputEnd).toBe(run.output.length)
  })

  it.each(['Connection: keep-alive, Upgrade', 'Connection:\tUPGRADE ,close', 'Connection: close\r\nConnection: upgrade', 'Proxy-Connection: x, upgrade'])('never happens twice where it asks for another protocol: %j', async (header) => {
    const effects: string[] = []
    const { run, ends } = await everyInstant({ input: inParts(upgrading(header)), server: onUpgrade(switching, effects), isWhole: holds('[done]'), observe: () => effects.length })
    expect(new Set(effects)).toEqual(new Set(['upgrade']))
    expectExact(ends, run.output)
    expect(resets(ends)).toEqual(['not-repeatable'])
    expect(ends.some(({ reset, instant }) => reset === undefined && instant.observed > 0)).toBe(false)
  })

  it('has the same key when it is run again because its server says that it may', async () => {
    const effects: string[] = []
    const { run, ends } = await everyInstant(story(effects, { replay: ({ method, url, key }) => method === 'POST' && url === '/order' && key.endsWith(' 0') }))
    expectExact(ends, run.output)
    expect(resets(ends)).toEqual([])
    const [key] = effects[0]!.split(' ')
    // Each run begins on a machine of its own: before anything had come, the same connection, and so the same key.
    expect(new Set(effects.map((effect) => effect.split(' ')[0]))).toEqual(new Set([key]))
    expect(effects.filter((effect) => effect.endsWith('true')).length).toBeGreaterThan(0)
  })
})

describe('a long response with checkpoints', () => {
  it.each(['chunked', 'of known length'])('%s goes on behind the last one', async (kind) => {
    let firstPart = 0
    const server = quiet((request, response) => void (async () => {
      const from = continuationOf(request)
      const start = from === undefined ? 0 : from.state![0]!
      if (from !== undefined) expect(from.bytes).toBe(start * 10)
      if (start === 0) firstPart++
      if (kind !== 'chunked') response.setHeader('content-length', 90)
      response.flushHeaders()
      for (let part = start; part < 9; part++) {
        response.write(`[part ${part}]..`)
        await turn()
        checkpoint(response, Uint8Array.of(part + 1))
      }
      response.end()
    })())
    const { run, ends } = await everyInstant({ input: [get('/')], server, isWhole: kind === 'chunked' ? holds('\r\n0\r\n\r\n') : holds('[part 8]..') })
    expectExact(ends, run.output)
    expect(resets(ends)).toEqual([])
    expect(firstPart).toBeLessThan(ends.length)
  })
})

describe('when the second machine fails, too, whose kernel takes nothing at once', () => {
  it.each([64 << 10, 2])('a long response goes on behind the checkpoint that is made as soon as its part is written, with literals of up to %i bytes', async (maxLiteralBytes) => {
    const server = quiet((request, response) => void (async () => {
      const start = continuationOf(request)?.state?.[0] ?? 0
      response.flushHeaders()
      for (let part = start; part < 6; part++) {
        response.write(`[${part}`)
        // What comes by and by on the first machine comes at once on the others: the end of a comparison is within it.
        if (!isReplay(request)) await turn()
        response.write(']'.padEnd(2 + part, '-'))
        checkpoint(response, Uint8Array.of(part + 1))
        await turn()
      }
      response.end()
    })())
    const { run, ends } = await everySecondInstant({ input: [get('/')], server, options: { maxLiteralBytes }, isWhole: holds('\r\n0\r\n\r\n') }, { first: 16, second: 16 })
    expectExact(ends, run.output)
    // Where a checkpoint lies within one write that is not kept, the kernel may not have come to it.
    expect(resets(ends)).toEqual(maxLiteralBytes === 2 ? ['output-unknown'] : [])
  })
})

describe('a protocol of its own', () => {
  const serve = (socket: Socket, greet: boolean): void => {
    let line = ''
    if (greet) socket.write('welcome\n')
    socket.setEncoding('latin1').on('data', (text: string) => {
      const lines = (line + text).split('\n')
      line = lines.pop()!
      for (const whole of lines) socket.write(`[${whole}]`)
      if (line === '') checkpoint(socket, Buffer.from('known'))
    }).on('error', () => undefined)
  }
  it('goes on behind its last checkpoint', async () => {
    const { run, ends } = await everyInstant({
      input: ['hel', 'lo\n', 'how are', ' you\n', 'bye\n'],
      server: () => createNetServer((socket) => serve(socket, continuationOf(socket) === undefined)),
      options: { replay: ({ method, url, key }) => method === '' && url === '' && /^client-\d+ [0-9a-f]{16} \d+$/.test(key) },
      isWhole: holds('[bye]'),
    })
    expectExact(ends, run.output)
    expect(resets(ends)).toEqual([])
  })

  it('is given no input a second time by a server that does not say that it may be', async () => {
    let given = ''
    const { run, ends } = await everyInstant({
      input: ['hel', 'lo\n', 'bye\n'],
      server: () => createNetServer((socket) => {
        serve(socket, continuationOf(socket) === undefined)
        socket.on('data', (text: string) => void (given += text))
      }),
      isWhole: holds('[bye]'), observe: () => given.length,
    })
    expectExact(ends, run.output)
    expect(resets(ends)).toEqual(['not-repeatable'])
    for (const { reset, instant: { decoded } } of ends) expect(reset).toBe(decoded.input.length > 0 ? 'not-repeatable' : undefined)
  })

  it('is given to resume() with its state', async () => {
    const states: (string | undefined)[] = []
    const { run, ends } = await everyInstant({
      input: ['hel', 'lo\n', 'bye\n'],
      server: () => createNetServer((socket) => serve(socket, true)),
      options: { resume: (socket, state) => {
        states.push(state && Buffer.from(state).toString())
        serve(socket, state === undefined)
      } },
      isWhole: holds('[bye]'),
    })
    expectExact(ends, run.output)
    expect(resets(ends)).toEqual([])
    expect(new Set(states)).toEqual(new Set([undefined, 'known']))
  })
})
