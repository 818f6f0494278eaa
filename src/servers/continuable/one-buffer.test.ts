import { connect, createServer, Socket } from 'node:net'
import { once } from 'node:events'
import { afterEach, describe, expect, it } from 'vitest'
import { broughtBytes, readIntoOneBuffer } from './one-buffer.js'
import { listening, pairOfSockets } from './testing/harness.js'

const open: Socket[] = []

afterEach(() => {
  for (const socket of open.splice(0)) socket.destroy()
})

async function pair(): Promise<[Socket, Socket]> {
  const [ours, theirs] = await pairOfSockets()
  open.push(ours, theirs)
  return [ours, theirs]
}

describe('reading into one buffer', () => {
  it('is what this Node.js can do: all that a server reads comes there, in order, and none of it by push', async () => {
    const [ours, theirs] = await pair()
    const places = new Set<ArrayBufferLike>()
    const parts: Buffer[] = []
    let pushed = 0
    const push = theirs.push.bind(theirs)
    theirs.push = (chunk: unknown) => {
      if (chunk !== null) pushed++
      return push(chunk)
    }
    const sent = Buffer.from(Array.from({ length: 300_000 }, (_, i) => i % 251))
    const whole = new Promise<void>((resolve) => {
      let count = 0
      expect(readIntoOneBuffer(theirs, function (this: Socket, length) {
        expect(this).toBe(theirs)
        const bytes = broughtBytes(length)
        places.add(bytes.buffer)
        parts.push(Buffer.from(bytes))
        count += length
        if (count === sent.length) resolve()
        return true
      })).toBe(true)
    })
    theirs.resume()
    ours.write(sent)
    await whole
    expect(Buffer.concat(parts).equals(sent)).toBe(true)
    expect(places.size).toBe(1)
    expect(pushed).toBe(0)
  })

  it('stops where it is told to, and goes on when the socket is resumed', async () => {
    const [ours, theirs] = await pair()
    const lengths: number[] = []
    let changed = (): void => undefined
    readIntoOneBuffer(theirs, (length) => {
      lengths.push(length)
      changed()
      return lengths.length > 1
    })
    const next = (): Promise<void> => new Promise((resolve) => (changed = resolve))
    const first = next()
    theirs.resume()
    ours.write('abc')
    await first
    const second = next()
    theirs.pause()
    ours.write('defgh')
    theirs.resume()
    await second
    expect(lengths).toEqual([3, 5])
  })

  it('ends as any socket does', async () => {
    const [ours, theirs] = await pair()
    readIntoOneBuffer(theirs, () => true)
    theirs.resume()
    ours.end('last')
    await once(theirs, 'end')
    expect(theirs.readableEnded).toBe(true)
  })

  it('is left alone for a socket that reads into a buffer of its own, and for one that has no connection', async () => {
    const server = createServer()
    const port = await listening(server)
    const own = Buffer.alloc(16)
    const socket = connect({ port, host: '127.0.0.1', onread: { buffer: own, callback: () => true } })
    open.push(socket)
    await once(socket, 'connect')
    server.close()
    expect(readIntoOneBuffer(socket, () => true)).toBe(false)
    expect(readIntoOneBuffer(new Socket(), () => true)).toBe(false)
  })
})
