import { describeRemoteMemoryContract } from '../../src/fabric/testing/contract.js'
import { controlRange, impatient, Loopback, needsDevice } from '../players.js'

needsDevice()

describeRemoteMemoryContract('verbs', () => {
  const loopback = new Loopback()
  const { sampling } = loopback.connect({ queuePairs: impatient })
  return Promise.resolve({
    memory: sampling,
    bytes: loopback.bytes,
    controlOffset: controlRange.offset,
    controlLength: controlRange.length,
    connect: () => Promise.resolve(loopback.connect({ queuePairs: impatient }).sampling),
    kill: () => Promise.resolve(loopback.kill()),
    close: () => loopback.close(),
  })
})
