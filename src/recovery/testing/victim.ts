/** A node that fails, in a simulation: a real region, a server that commits into it, and what it acknowledged. */
import { randomUUID } from 'node:crypto'
import { unlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isBackdoorsError } from '../../errors.js'
import { MockMemory, type MockMemoryOptions } from '../../fabric/mock/mock-memory.js'
import { SimulatedNode } from '../../fabric/mock/simulated-node.js'
import type { Simulation } from '../../fabric/mock/simulation.js'
import { BoxOwner } from '../../region/box-owner.js'
import { control } from '../../region/layout.js'
import { createRegion, type Region } from '../../region/region.js'
import type { Safeguards } from '../../safeguards.js'

export const smallGeometry = { boxCount: 4, sensorsPerBox: 4, sessionsPerBox: 64, heapBytes: 256 << 10 }

/** A region of its own, whose file is gone already. */
export function scratchRegion(node: string): Region {
  const path = join(tmpdir(), `backdoors-${randomUUID()}`)
  const region = createRegion(path, node, 'simulated', smallGeometry)
  unlinkSync(path)
  return region
}

export interface VictimOptions {
  readonly sessions?: number
  readonly safeguards?: Safeguards
}

export class Victim {
  readonly region: Region
  readonly node: SimulatedNode
  readonly server: BoxOwner
  /** Highest value acknowledged to the client, and highest ever tried, of each session. */
  readonly acknowledged = new Map<string, number>()
  readonly tried = new Map<string, number>()
  /** The server has noticed that it is fenced. */
  fenced = false
  /** Called in the middle of a commit, between its two looks at the fence. */
  midCommit: () => void = () => undefined
  readonly #simulation: Simulation

  constructor(simulation: Simulation, name: string, { sessions = 8, safeguards }: VictimOptions = {}) {
    this.#simulation = simulation
    this.region = scratchRegion(name)
    this.node = new SimulatedNode(simulation, {
      name,
      buffer: this.region.memory.buffer,
      windows: [{ offset: control.offset, length: control.bytes, access: 'atomic' }],
    })
    const nowMs = (): number => {
      this.midCommit()
      return simulation.now() / 1000
    }
    this.server = BoxOwner.take(this.region, { name: 'web', nowMs, ...(safeguards ? { safeguards } : {}) })
    for (let i = 0; i < sessions; i++) this.commit(`s${i}`, 1)
  }

  connect(options: MockMemoryOptions = {}): MockMemory {
    return new MockMemory(this.#simulation, this.node, options)
  }

  /** Commits `value`, with bytes that follow from it, and notes whether that was acknowledged. */
  commit(id: string, value: number): void {
    this.tried.set(id, value)
    try {
      this.server.sessions.commit(this.server.sessions.store('carts'), id, payloadOf(id, value), { ttlMs: 0, schemaVersion: 1 })
      this.acknowledged.set(id, value)
    } catch (error) {
      if (!isBackdoorsError(error, 'FENCED')) throw error
      this.fenced = true
    }
  }

  /** Commits to random sessions at random instants until fenced or `untilUs`. */
  keepCommitting(untilUs: number): void {
    const random = this.#simulation.random('commits')
    const next = (): void => {
      if (this.fenced || this.#simulation.now() > untilUs) return
      const id = random.pick([...this.tried.keys()])
      this.commit(id, (this.tried.get(id) ?? 0) + 1)
      this.#simulation.schedule(random.integer(1, 4), next)
    }
    next()
  }

  close(): void {
    this.server.close()
    this.region.memory.close()
  }
}

/** 200 to 1,200 bytes that only this value of this session has. */
export function payloadOf(id: string, value: number): Uint8Array {
  const text = `${id}:${value};`
  return new TextEncoder().encode(text.repeat(Math.ceil((200 + (value * 97) % 1000) / text.length)))
}

/** The value that a payload stands for, or undefined where no commit ever wrote these bytes. */
export function valueOf(id: string, payload: Uint8Array): number | undefined {
  const value = Number(/^[^:]+:(\d+);/.exec(new TextDecoder().decode(payload.subarray(0, 40)))?.[1])
  return Number.isInteger(value) && Buffer.from(payload).equals(payloadOf(id, value)) ? value : undefined
}
