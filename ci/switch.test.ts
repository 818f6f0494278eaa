import { mkdtemp, rm } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { once } from 'node:events'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { FrameLengthError, frameMessage, FrameParser, headerBytes } from './switch-frames.js'
import { EthernetSwitch } from './switch.js'

/** A frame between two stations, named by the last byte of their addresses; 255 is everybody. */
function frame(to: number, from: number, payload: string): Buffer {
  const address = (station: number) => (station === 255 ? Buffer.alloc(6, 255) : Buffer.from([0x52, 0x54, 0, 0, 0, station]))
  return Buffer.concat([address(to), address(from), Buffer.from([0x08, 0x00]), Buffer.from(payload)])
}

/** A guest's network card: collects the payloads that reach it. */
class Station {
  readonly payloads: string[] = []
  private readonly parser = new FrameParser()

  constructor(readonly socket: Socket) {
    socket.on('data', (chunk: Buffer) => {
      for (const message of this.parser.push(chunk)) this.payloads.push(message.toString('utf8', headerBytes + 14))
      socket.emit('taken')
    })
  }

  send(bytes: Buffer): void {
    this.socket.write(frameMessage(bytes))
  }

  async received(count: number): Promise<string[]> {
    while (this.payloads.length < count) await once(this.socket, 'taken')
    return this.payloads
  }
}

describe('EthernetSwitch', () => {
  let folder: string
  let network: EthernetSwitch
  const stations = new Map<string, Station>()
  const station = (name: string): Station => {
    const found = stations.get(name)
    if (found === undefined) throw new Error(`no station ${name}`)
    return found
  }

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'backdoors-switch-'))
    network = new EthernetSwitch()
    for (const name of ['a', 'b', 'c']) {
      const path = join(folder, name)
      await network.addPort(name, path)
      const socket = connect(path)
      await once(socket, 'connect')
      stations.set(name, new Station(socket))
    }
    // Everybody speaks once, so that every address is learned; the echo of the others shows that all ports are up.
    station('a').send(frame(255, 1, 'hello from a'))
    station('b').send(frame(255, 2, 'hello from b'))
    station('c').send(frame(255, 3, 'hello from c'))
    for (const each of stations.values()) (await each.received(2)).length = 0
  })

  afterEach(async () => {
    for (const { socket } of stations.values()) socket.destroy()
    stations.clear()
    network.close()
    await rm(folder, { recursive: true })
  })

  /** Frames between two ports keep their order, so what arrived before this probe is all that was to arrive. */
  async function settle(from: string, fromStation: number, to: string, toStation: number): Promise<string[]> {
    station(from).send(frame(toStation, fromStation, 'probe'))
    const { payloads } = station(to)
    while (!payloads.includes('probe')) await once(station(to).socket, 'taken')
    return payloads.splice(0).filter((payload) => payload !== 'probe')
  }

  it('gives the name of a port that was removed to another', async () => {
    await network.removePort('c')
    await network.removePort('c')
    const path = join(folder, 'c')
    await network.addPort('c', path)
    const socket = connect(path)
    await once(socket, 'connect')
    stations.set('c', new Station(socket))
    station('c').send(frame(1, 3, 'hello again'))
    expect(await station('a').received(1)).toEqual(['hello again'])
  })

  it('sends a frame for a learned address to that port only', async () => {
    station('a').send(frame(2, 1, 'for b'))
    expect(await settle('a', 1, 'b', 2)).toEqual(['for b'])
    expect(await settle('a', 1, 'c', 3)).toEqual([])
  })

  it('sends broadcasts and frames for unknown addresses to all other ports', async () => {
    station('a').send(frame(255, 1, 'for all'))
    station('a').send(frame(77, 1, 'for a stranger'))
    expect(await settle('a', 1, 'b', 2)).toEqual(['for all', 'for a stranger'])
    expect(await settle('a', 1, 'c', 3)).toEqual(['for all', 'for a stranger'])
    expect(station('a').payloads).toEqual([])
  })

  it('reassembles frames that arrive byte by byte', async () => {
    for (const byte of frameMessage(frame(2, 1, 'slow'))) station('a').socket.write(Buffer.from([byte]))
    expect(await settle('a', 1, 'b', 2)).toEqual(['slow'])
  })

  it('keeps the order of many frames written at once', async () => {
    const payloads = Array.from({ length: 500 }, (_, index) => `number ${index}`)
    station('a').socket.write(Buffer.concat(payloads.map((payload) => frameMessage(frame(2, 1, payload)))))
    expect(await station('b').received(500)).toEqual(payloads)
  })

  it('cuts a link both ways and no other, and heals it', async () => {
    network.cut('a', 'b')
    station('a').send(frame(2, 1, 'lost'))
    station('b').send(frame(1, 2, 'lost'))
    expect(await settle('a', 1, 'c', 3)).toEqual([])
    expect(await settle('b', 2, 'c', 3)).toEqual([])
    expect(network.counters('b').droppedFrames).toBe(1)
    expect(network.counters('a').droppedFrames).toBe(1)
    network.heal('a', 'b')
    expect(await settle('a', 1, 'b', 2)).toEqual([])
    expect(await settle('b', 2, 'a', 1)).toEqual([])
  })

  it('drops only the frames that the impairment names', async () => {
    network.impair('a', 'b', { drop: (bytes) => bytes.includes('bad') })
    station('a').send(frame(2, 1, 'bad'))
    station('a').send(frame(2, 1, 'good'))
    expect(await settle('a', 1, 'b', 2)).toEqual(['good'])
    network.impair('a', 'b', undefined)
    station('a').send(frame(2, 1, 'bad'))
    expect(await settle('a', 1, 'b', 2)).toEqual(['bad'])
  })

  it('delays frames one way only', async () => {
    network.impair('a', 'b', { delayMs: 60 })
    const sentAt = performance.now()
    station('a').send(frame(2, 1, 'late'))
    expect(await settle('b', 2, 'a', 1)).toEqual([])
    expect(station('b').payloads).toEqual([])
    expect(await station('b').received(1)).toEqual(['late'])
    expect(performance.now() - sentAt).toBeGreaterThanOrEqual(58)
  })

  it.each([
    ['longer than QEMU allows', 0xffff_ffff],
    ['shorter than an Ethernet header', 13],
    ['of zero bytes', 0],
  ])('closes a port that announces a frame %s, and serves the others', async (_what, lengthBytes) => {
    const header = Buffer.alloc(headerBytes)
    header.writeUInt32BE(lengthBytes)
    const reported = once(network, 'portError')
    const closed = once(station('a').socket, 'close')
    station('a').socket.write(header)
    const [port, error] = (await reported) as [string, FrameLengthError]
    expect(port).toBe('a')
    expect(error).toBeInstanceOf(FrameLengthError)
    expect(error.lengthBytes).toBe(lengthBytes)
    await closed
    station('b').send(frame(3, 2, 'still here'))
    expect(await settle('b', 2, 'c', 3)).toEqual(['still here'])
  })

  it('drops, without growing, what a station that reads nothing is sent', async () => {
    station('b').socket.pause()
    const big = 'x'.repeat(60_000)
    for (let count = 0; count < 400; count += 1) station('a').send(frame(2, 1, big))
    expect(await settle('a', 1, 'c', 3)).toEqual([])
    const { sentFrames, droppedFrames } = network.counters('b')
    expect(droppedFrames).toBeGreaterThan(200)
    expect(sentFrames + droppedFrames).toBeGreaterThanOrEqual(400)
  })

  it('refuses a second port of the same name, and a link to a port that is not there', async () => {
    await expect(network.addPort('a', join(folder, 'again'))).rejects.toThrow('already has a port a')
    expect(() => {
      network.cut('a', 'nobody')
    }).toThrow('no port nobody')
  })
})
