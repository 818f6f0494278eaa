/** The process that only lends the memory which a benchmark in another process reads. Its argument is the device. */
import type { EndpointPair } from '../../fabric/lending.js'
import { VerbsDevice } from '../../fabric/verbs/device.js'
import { lendPattern } from './verbs-target.js'

const name = process.argv[2]
const device = VerbsDevice.open(name === undefined ? {} : { device: name })
const responder = lendPattern(device)
process.on('message', (endpoints: EndpointPair) => {
  process.send?.(responder.accept(endpoints))
})
process.on('disconnect', () => {
  responder.close()
  device.close()
})
