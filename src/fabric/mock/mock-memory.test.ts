import { contractMemoryBytes } from '../testing/memory-fixture.js'
import { describeRemoteMemoryContract } from '../testing/contract.js'
import { MockMemory } from './mock-memory.js'
import { SimulatedNode } from './simulated-node.js'
import { Simulation } from './simulation.js'

describeRemoteMemoryContract('mock', () => {
  const simulation = new Simulation(1)
  const [controlOffset, controlLength] = [4_096, 4_096]
  const windows = [{ offset: controlOffset, length: controlLength, access: 'atomic' as const }]
  const node = new SimulatedNode(simulation, { name: 'b', buffer: new ArrayBuffer(contractMemoryBytes), windows })
  const memory = new MockMemory(simulation, node)
  const others: MockMemory[] = []
  return Promise.resolve({
    memory,
    bytes: node.bytes,
    controlOffset,
    controlLength,
    connect: () => {
      const other = new MockMemory(simulation, node, { from: 'other' })
      others.push(other)
      return Promise.resolve(other)
    },
    advance: (us: number) => simulation.advance(us),
    kill: () => Promise.resolve(node.die()),
    close: async () => {
      for (const each of [memory, ...others]) await each.close()
    },
  })
})
