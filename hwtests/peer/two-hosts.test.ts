import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { WatchEvent } from '../../src/fabric/remote-memory.js'
import { VerbsConnector, type VerbsConnection, type VerbsDevice } from '../../src/fabric/verbs/index.js'
import type { MemoryWindow } from '../../src/fabric/lending.js'
import { defaultPort, onMessage, peerMemoryLength, type PeerAnswer, type PeerRequest, send } from '../peer-protocol.js'
import { impatient, needsDevice, openDevice } from '../players.js'

needsDevice()

const host = process.env['BACKDOORS_PEER'] ?? ''

class Peer {
  readonly #socket: Socket
  readonly #waiting: ((answer: PeerAnswer) => void)[] = []

  private constructor(socket: Socket) {
    this.#socket = socket
    onMessage<PeerAnswer>(socket, (answer) => this.#waiting.shift()?.(answer))
  }

  static async connect(): Promise<Peer> {
    const socket = connect(defaultPort, host)
    await once(socket, 'connect')
    return new Peer(socket)
  }

  async ask(request: PeerRequest): Promise<PeerAnswer> {
    const answered = new Promise<PeerAnswer>((resolve) => this.#waiting.push(resolve))
    send(this.#socket, request)
    const answer = await answered
    if (answer.error !== undefined) throw new Error(`the peer failed: ${answer.error}`)
    return answer
  }

  close(): void {
    this.#socket.destroy()
  }
}

let peer: Peer
let device: VerbsDevice
const connections: VerbsConnection[] = []
beforeEach(async () => {
  device = openDevice()
  peer = await Peer.connect()
})
afterEach(async () => {
  for (const { sampling, recovery } of connections.splice(0)) {
    await sampling.close()
    await recovery.close()
  }
  peer.close()
  device.close()
})

type Tamper = (windows: readonly MemoryWindow[]) => readonly MemoryWindow[]

async function reach(watcher = 'watcher', tamper: Tamper = (windows) => windows): Promise<VerbsConnection> {
  const connector = new VerbsConnector({ device, peer: host, queuePairs: impatient })
  const { endpoints, windows } = await peer.ask({ op: 'accept', watcher, endpoints: connector.endpoints })
  if (endpoints === undefined || windows === undefined) throw new Error('the peer did not accept')
  const connection = connector.connect(endpoints, tamper(windows))
  connections.push(connection)
  return connection
}

async function until(condition: () => boolean): Promise<void> {
  const untilMs = performance.now() + 30_000
  while (!condition()) {
    if (performance.now() > untilMs) throw new Error('waited in vain')
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}

describe('the memory of another host', () => {
  it('is read as it is: small, whole, and in many pieces', async () => {
    const { sampling, recovery } = await reach()
    await peer.ask({ op: 'fill', offset: 8_192, length: 1 << 20, value: 7 })
    expect(await sampling.read(8_192, 5)).toEqual(new Uint8Array(5).fill(7))
    expect((await recovery.read(8_192, 1 << 20)).every((byte) => byte === 7)).toBe(true)
    const ranges = Array.from({ length: 500 }, (_, index) => ({ offset: 8_192 + index * 64, length: 64 }))
    const cells = await sampling.readMany(ranges)
    expect(cells.every((cell) => cell.length === 64 && cell.every((byte) => byte === 7))).toBe(true)
    expect(sampling.length).toBe(peerMemoryLength)
  })

  it('shows at the next read what its owner wrote', async () => {
    const { sampling } = await reach()
    const prepared = sampling.prepareRead([{ offset: 8_192, length: 64 }])
    for (const value of [1, 2, 3]) {
      await peer.ask({ op: 'fill', offset: 8_192, length: 64, value })
      prepared.runSync()
      expect(prepared.views[0]).toEqual(new Uint8Array(64).fill(value))
    }
  })

  it('takes compare-and-swap in its control page, and nothing else anywhere', async () => {
    const { sampling } = await reach()
    await peer.ask({ op: 'fill', offset: 4_096, length: 4_096, value: 0 })
    expect(await sampling.compareAndSwap(4_104, 0n, 0x0102_0304_0506_0708n)).toBe(0n)
    expect(await sampling.compareAndSwap(4_104, 0n, 1n)).toBe(0x0102_0304_0506_0708n)
    expect(await peer.ask({ op: 'word', offset: 4_104 })).toEqual({ word: 0x0102_0304_0506_0708n })
    await expect(sampling.compareAndSwap(8_192, 0n, 1n)).rejects.toMatchObject({ code: 'READ_ONLY' })
    await expect(sampling.write(4_104, new Uint8Array(8))).rejects.toMatchObject({ code: 'READ_ONLY' })
  })

  it('is refused by its own device to who does not keep to that, and a fresh connection works', async () => {
    const lies: readonly Tamper[] = [
      (windows) => windows.map((window) => ({ ...window, rkey: window.rkey ^ 0xff00 })),
      (windows) => windows.map((window) => ({ ...window, access: 'write' })),
    ]
    await peer.ask({ op: 'fill', offset: 8_192, length: 8, value: 9 })
    for (const tamper of lies) {
      const { sampling } = await reach('liar', tamper)
      const refused = tamper === lies[0] ? sampling.read(8_192, 8) : sampling.write(8_192, new Uint8Array(8))
      await expect(refused).rejects.toMatchObject({ code: expect.stringMatching(/^WC_REM_(ACCESS|INV_REQ)_ERR$/) as string, details: { peer: host } })
      const { sampling: fresh } = await reach('liar')
      expect(await fresh.read(8_192, 8)).toEqual(new Uint8Array(8).fill(9))
    }
  })

  it('is watched', async () => {
    const { sampling } = await reach()
    await peer.ask({ op: 'fill', offset: 8_192, length: 64, value: 0 })
    const events: WatchEvent[] = []
    const watch = sampling.watch({ cells: [{ counterOffset: 8_192, deadlineUs: 200_000 }], intervalUs: 5_000, unreachableAfterUs: 10e6 }, (event) => events.push(event))
    await until(() => events.some(({ kind }) => kind === 'stalled'))
    await peer.ask({ op: 'beat', offset: 8_192, intervalMs: 5 })
    await until(() => events.some(({ kind }) => kind === 'moved'))
    await peer.ask({ op: 'beat', offset: 8_192, intervalMs: 0 })
    watch.close()
    expect(watch.state.failedRounds).toBe(0)
  })
})

describe('another host that is gone', () => {
  it('is told by WC_RETRY_EXC_ERR to reads, and to a watch as unreachable', async () => {
    const { sampling, recovery } = await reach('abandoned')
    const events: WatchEvent[] = []
    const watch = sampling.watch({ cells: [], intervalUs: 5_000, unreachableAfterUs: 100_000 }, (event) => events.push(event))
    await until(() => watch.state.rounds > 1 || events.length > 0)
    await peer.ask({ op: 'release', watcher: 'abandoned' })
    await expect(recovery.read(8_192, 8)).rejects.toMatchObject({ code: 'WC_RETRY_EXC_ERR', details: { peer: host, offset: 8_192, length: 8 } })
    await until(() => events.some(({ kind }) => kind === 'unreachable'))
    watch.close()
    const { sampling: fresh } = await reach('abandoned')
    expect((await fresh.read(8_192, 8)).length).toBe(8)
  })
})
