import { expect, test } from 'vitest'
import { BackdoorsError } from '../../errors.js'
import { RefusalLog } from './refusal-log.js'
import { ManualClock } from './testing/manual-clock.js'

test('so many lines a second are written, and the next one counts those that were not', () => {
  const clock = new ManualClock()
  const lines: unknown[] = []
  const log = new RefusalLog({ warn: (fields: unknown) => void lines.push(fields) }, clock, 2)
  const refusal = new BackdoorsError('PEER_UNKNOWN', 'not a peer', { peer: 'x' })
  for (let index = 0; index < 5; index += 1) log.write(refusal, '192.0.2.1:5')
  clock.advance(1000)
  log.write(refusal, '192.0.2.1:5')
  log.write(refusal, '192.0.2.1:5')
  const line = { code: 'PEER_UNKNOWN', peer: 'x', from: '192.0.2.1:5' }
  expect(lines).toEqual([line, line, { ...line, unlogged: 3 }, line])
})
