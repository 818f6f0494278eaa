/** Loopback on one device: a lender and a connector, in one process or in two. */
import { fork, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { BackdoorsError } from '../../errors.js'
import type { EndpointPair } from '../../fabric/lending.js'
import type { MemoryRange } from '../../fabric/remote-memory.js'
import { VerbsConnector } from '../../fabric/verbs/connector.js'
import { VerbsDevice } from '../../fabric/verbs/device.js'
import { type Acceptance, VerbsLender } from '../../fabric/verbs/lender.js'
import type { VerbsMemory } from '../../fabric/verbs/verbs-memory.js'
import { memoryAddon } from '../../native/load.js'
import { fillPattern } from './pattern.js'
import { controlRange, patternLength, targetLength, type BenchRead, type BenchTarget } from './target.js'

export interface VerbsTargetOptions {
  readonly device?: string
  /** The lender in a process of its own, as perftest's server is. Default false. */
  readonly apart?: boolean
}

/** What answers the reads. */
export interface Responder {
  accept(endpoints: EndpointPair): Promise<Acceptance> | Acceptance
  close(): void
}

const openDevice = (name: string | undefined): VerbsDevice => VerbsDevice.open(name === undefined ? {} : { device: name })

/** Lends memory that is filled by the pattern. */
export function lendPattern(device: VerbsDevice): Responder {
  const { SharedMemory } = memoryAddon()
  const memory = new SharedMemory({ create: true, memfd: true, path: 'backdoors-bench', length: targetLength })
  fillPattern(new Uint8Array(memory.buffer, 0, patternLength))
  const lender = new VerbsLender({ device, memory, control: controlRange })
  return {
    accept: (endpoints) => lender.accept('bench', endpoints),
    close() {
      lender.close()
      memory.close()
    },
  }
}

/** @throws BackdoorsError VERBS_UNAVAILABLE, DEVICE_NOT_FOUND, NO_USABLE_GID, MEMLOCK_LIMIT, VERBS_CALL_FAILED */
export async function openVerbsTarget({ device: name, apart = false }: VerbsTargetOptions): Promise<BenchTarget> {
  const device = openDevice(name)
  const responder = apart ? lendApart(device.name) : lendPattern(device)
  const connector = new VerbsConnector({ device, peer: 'bench' })
  try {
    const { endpoints, windows } = await responder.accept(connector.endpoints)
    const { sampling, recovery } = connector.connect(endpoints, windows)
    return {
      fabric: 'verbs',
      device: device.name,
      responder: apart ? 'a process of its own' : 'this process',
      memory: sampling,
      prepare: (ranges) => prepare(sampling, ranges),
      async close() {
        await sampling.close()
        await recovery.close()
        responder.close()
        device.close()
      },
    }
  } catch (error) {
    connector.close()
    responder.close()
    device.close()
    throw error
  }
}

function prepare(memory: VerbsMemory, ranges: readonly MemoryRange[]): BenchRead {
  const prepared = memory.prepareRead(ranges)
  return {
    views: prepared.views,
    latencyLoop: (iterations) => prepared.latencyLoop(iterations),
    runSync: () => prepared.runSync(),
    start: () => prepared.start(),
    close: () => prepared.close(),
  }
}

/** How long the other process may take to start, in milliseconds: emulated processors are slow. */
const startTimeoutMs = 60_000

function lendApart(device: string): Responder {
  // Windows have 64-bit addresses, which JSON has not.
  const child = fork(fileURLToPath(new URL('./responder.js', import.meta.url)), [device], { serialization: 'advanced', stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  return {
    async accept(endpoints) {
      const accepted = answerOf(child)
      child.send(endpoints)
      return accepted
    },
    // It ends when it is told nothing any more.
    close: () => void (child.connected && child.disconnect()),
  }
}

function answerOf(child: ChildProcess): Promise<Acceptance> {
  return new Promise((resolve, reject) => {
    const fail = (why: string): void => reject(new BackdoorsError('PEER_UNREACHABLE', `the process that lends the memory to be read ${why}`))
    const timer = setTimeout(fail, startTimeoutMs, `did not answer within ${startTimeoutMs} ms`)
    child.once('message', (message) => resolve(message as unknown as Acceptance))
    child.once('error', (error) => fail(`did not start: ${error.message}`))
    child.once('exit', (code, signal) => fail(`ended with ${code ?? signal ?? 'nothing'}`))
    for (const event of ['message', 'error', 'exit']) child.once(event, () => clearTimeout(timer))
  })
}
