/**
 * The machine that goes on with a dead one's connections, as a process that a test puts into a network namespace: one JSON command a
 * line, one answer a line.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createServer, Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { BackdoorsError } from '../../../errors.js'
import { networkAddon } from '../../../native/load.js'
import { AddressKeeper, type VirtualAddress } from '../../addresses/address-keeper.js'
import { parseInterfaceAddress, type InterfaceAddress } from '../../addresses/interface-address.js'
import { abandonConnections, activateConnections, hintResend, resendSent, resetOthers, restoreConnections, type RestoredSocket } from '../restore.js'
import { connectionOf, type WrittenConnection } from './written-connection.js'

const network = networkAddon()
let restored: readonly RestoredSocket[] = []
let sockets: Socket[] = []
/** Of the last restoration: how long it took, and making its sockets live, in milliseconds. */
let took = { restoreMs: 0, activateMs: 0 }
const ended: Record<number, string> = {}
const received: Buffer[] = []
const holders: ChildProcess[] = []

function take(text: string): void {
  const address: VirtualAddress = { node: 'a', interface: 'eth0', failback: true, address: parseInterfaceAddress(text) as InterfaceAddress }
  new AddressKeeper({ addresses: [address], network, isRouter: () => false, later: () => () => undefined, onTrouble: () => undefined }).take('a')
}

/** Lets the event loop bring what a socket has, until it is as much as that. */
async function read(index: number, length: number): Promise<string> {
  const socket = sockets[index] as Socket
  const chunks: Buffer[] = received[index] === undefined ? [] : [received[index]]
  const count = (): number => chunks.reduce((sum, chunk) => sum + chunk.length, 0)
  while (count() < length) {
    const chunk = socket.read() as Buffer | null
    if (chunk !== null) chunks.push(chunk)
    else await new Promise((resolve) => socket.once('readable', resolve))
  }
  const all = Buffer.concat(chunks)
  received[index] = all.subarray(length)
  return all.subarray(0, length).toString('hex')
}

type Written = Readonly<Record<string, unknown>> & { readonly index: number }

const verbs: Readonly<Record<string, (command: Written) => unknown>> = {
  restore: ({ connections }) => {
    const wanted = (connections as WrittenConnection[]).map(connectionOf)
    const startedMs = performance.now()
    const all = restoreConnections({ network, connections: wanted })
    took = { restoreMs: performance.now() - startedMs, activateMs: 0 }
    restored = all.restored
    return { restored: restored.length, refused: all.refused.map(({ reason, error }) => ({ reason, ...error.details })) }
  },
  take: ({ address }) => take(address as string),
  activate: () => {
    const startedMs = performance.now()
    const { activated, refused } = activateConnections(network, restored)
    took.activateMs = performance.now() - startedMs
    // Without `pauseOnCreate`, which is no part of the type, a socket reads at once.
    const paused = { pauseOnCreate: true, allowHalfOpen: true, readable: true, writable: true }
    sockets = activated.map((each) => new Socket({ ...paused, fd: each.take() }))
    for (const [index, socket] of sockets.entries()) socket.on('error', ({ code }: NodeJS.ErrnoException) => void (ended[index] = code ?? 'an error'))
    return refused.map(({ reason }) => reason)
  },
  names: ({ index }) => {
    const { localAddress, localPort, remoteAddress, bytesRead } = sockets[index] as Socket
    return { localAddress, localPort, remoteAddress, bytesRead }
  },
  read: ({ index, length }) => read(index, length as number),
  write: ({ index, bytes }) => void (sockets[index] as Socket).write(Buffer.from(bytes as string, 'hex')),
  echo: () => {
    for (const socket of sockets) socket.on('data', (chunk) => void socket.write(chunk)).resume()
  },
  listen: ({ address, port }) => new Promise((resolve, reject) => void createServer().once('error', reject).listen(port as number, address as string, () => resolve('listening'))),
  took: () => took,
  /** By index, of sockets that have ended by an error: its code. */
  ended: () => ended,
  /** Another process has the restored sockets as well, and does nothing with them. */
  lend: async () => {
    const holder = spawn('sleep', ['infinity'], { stdio: ['ignore', 'ignore', 'ignore', ...restored.map(({ descriptor }) => descriptor)] })
    await once(holder, 'spawn')
    holders.push(holder)
  },
  endLending: async () => {
    for (const holder of holders) {
      holder.kill('SIGKILL')
      await once(holder, 'exit')
    }
  },
  hint: () => hintResend(network, restored)?.details,
  resend: () => resendSent(network, restored)?.details,
  /** Connections that this machine has no sockets for. */
  resetOthers: ({ connections }) => resetOthers(network, (connections as WrittenConnection[]).map(connectionOf))?.details,
  abandon: () => {
    abandonConnections(restored)
    abandonConnections(restored)
    return restored.map(({ isOpen }) => isOpen)
  },
  reset: () => {
    for (const each of restored) {
      each.reset()
      each.reset()
    }
  },
}

async function answer(line: string): Promise<unknown> {
  const command = JSON.parse(line) as Written & { readonly do: string }
  try {
    return { answer: (await verbs[command.do]?.(command)) ?? null }
  } catch (error) {
    return { error: error instanceof BackdoorsError ? error : String(error) }
  }
}

process.stdout.write('"ready"\n')
createInterface({ input: process.stdin }).on('line', (line) => void answer(line).then((told) => process.stdout.write(`${JSON.stringify(told)}\n`)))
