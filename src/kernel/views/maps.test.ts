import { describe, expect, it } from 'vitest'
import { panickedHost, reported } from '../testing/panicked-host.js'
import { findTask } from './find-task.js'
import { formatMapping, readMaps } from './maps.js'

/** Of the process with this command line; the last one, as `pgrep -n` has it. */
function pidOf(command: RegExp): number {
  const lines = reported['ps']!.split('\n').filter((line) => command.test(line))
  return Number(/^\s*(\d+)/.exec(lines.at(-1)!)![1])
}

describe('maps', () => {
  it.each([['stack', 'maps', /\/tmp\/cap\/stack$/], ['node', 'nodemaps', /^\s*174 /]])('of %s are those that the host printed, byte for byte', async (_, name, command) => {
    const { mappings, faults } = await readMaps(await panickedHost(), pidOf(command))
    expect(faults).toEqual([])
    expect(mappings.map((mapping) => `${formatMapping(mapping)}\n`).join('')).toBe(reported[name]!)
  })

  it('has none for a thread of the kernel', async () => {
    expect(await readMaps(await panickedHost(), 2)).toEqual({ mappings: [], faults: [] })
  })

  it('says that there is no such process', async () => {
    await expect(readMaps(await panickedHost(), 4_000_000)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', details: { field: 'pid' } })
  })

  it('takes few batches', async () => {
    const image = await panickedHost()
    expect((await findTask(image, 175))?.text('comm')).toBe('stack')
  })
})
