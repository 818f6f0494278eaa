import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { judge } from './judge.js'
import { boxVerdicts, nodeVerdicts, type ControlConnection, type NodeVerdictKind, type Observation, type ObservedBox, type ObservedSensor } from './verdict.js'

const deadlineUs = 50_000

const sensor = (name: string, ageUs: number, more: Partial<ObservedSensor> = {}): ObservedSensor => ({
  name, counter: 7, pending: 1, ageUs, deadlineUs, stalled: ageUs > deadlineUs, ...more,
})

const box = (number: number, sensors: readonly ObservedSensor[], more: Partial<ObservedBox> = {}): ObservedBox => ({
  box: number, name: `server-${number}`, generation: 3, exited: false, sensors, ...more,
})

const observation = (more: Partial<Observation>): Observation => ({ reachable: true, control: 'none', osSensor: sensor('os', 1000), boxes: [], ...more })

const moving = sensor('event-loop', 900)
const stopped = sensor('event-loop', deadlineUs + 1)

describe('reads succeed and the OS sensor moves', () => {
  it('every sensor moves in time: alive', () => {
    expect(judge(observation({ boxes: [box(1, [moving]), box(2, [moving])] }))).toMatchObject({ node: { kind: 'alive' }, boxes: [{ kind: 'alive', box: 1 }, { kind: 'alive', box: 2 }] })
  })

  it('a server that has nothing to do: alive', () => {
    const idle = sensor('requests', 10 * deadlineUs, { pending: 0, stalled: false })
    expect(judge(observation({ boxes: [box(1, [idle])] }))).toMatchObject({ node: { kind: 'alive' }, boxes: [{ kind: 'alive' }] })
  })

  it('a server without sensors: alive', () => {
    expect(judge(observation({ boxes: [box(1, [])] }))).toMatchObject({ boxes: [{ kind: 'alive' }] })
  })

  it('a server\'s sensor is past its deadline: app-stalled, with the sensor as evidence, and its neighbours stay alive', () => {
    const judgement = judge(observation({ boxes: [box(1, [moving]), box(2, [moving, stopped], { generation: 9 })] }))
    expect(judgement).toMatchObject({ node: { kind: 'alive' }, boxes: [{ kind: 'alive', box: 1 }, { kind: 'app-stalled', box: 2, generation: 9, name: 'server-2', sensor: stopped }] })
    expect(judgement?.boxes[1]?.seen).toContain('event-loop has not moved for 50001 µs (deadline 50000 µs)')
  })

  it('a server\'s sensor is past its deadline, and the OS sensor has been still for most of its own: undecided', () => {
    expect(judge(observation({ osSensor: sensor('os', 0.9 * deadlineUs), boxes: [box(1, [stopped])] }))).toBeUndefined()
    expect(judge(observation({ osSensor: sensor('os', 0.9 * deadlineUs), boxes: [box(1, [moving])] }))).toMatchObject({ node: { kind: 'alive' } })
  })

  it('a server\'s sensor is past its deadline, and the OS sensor more than half way to its own: undecided, for the machine may be stopping', () => {
    expect(judge(observation({ osSensor: sensor('os', deadlineUs / 2 + 1), boxes: [box(1, [stopped])] }))).toBeUndefined()
    expect(judge(observation({ osSensor: sensor('os', deadlineUs / 2), boxes: [box(1, [stopped])] }))).toMatchObject({ boxes: [{ kind: 'app-stalled' }] })
    expect(judge(observation({ osSensor: sensor('os', deadlineUs / 2 + 1), boxes: [box(1, [moving])] }))).toMatchObject({ node: { kind: 'alive' } })
  })

  it('the daemon has marked the process as gone: app-exited, whatever its sensors say', () => {
    expect(judge(observation({ boxes: [box(1, [moving], { exited: true }), box(2, [stopped], { exited: true })] }))).toMatchObject({ boxes: [{ kind: 'app-exited' }, { kind: 'app-exited' }] })
  })
})

describe('reads succeed and the OS sensor is past its deadline', () => {
  const osSensor = sensor('os', 2 * deadlineUs)

  it('no server\'s sensor moves either: os-stalled, of the node and of no box', () => {
    expect(judge(observation({ osSensor, boxes: [box(1, [stopped]), box(2, [stopped, stopped])] }))).toEqual({
      node: { kind: 'os-stalled', seen: 'the OS sensor has not moved for 100000 µs (deadline 50000 µs), and none of 3 server sensors moves', sensor: osSensor },
      boxes: [],
    })
  })

  it('there is no server: os-stalled', () => {
    expect(judge(observation({ osSensor }))).toMatchObject({ node: { kind: 'os-stalled' } })
    expect(judge(observation({ osSensor, boxes: [box(1, [moving], { exited: true })] }))).toMatchObject({ node: { kind: 'os-stalled' } })
  })

  it('no server\'s sensor has to move: daemon-stalled, for the daemon alone may have stopped', () => {
    const idle = sensor('requests', 0, { pending: 0, stalled: false })
    const boxes = [box(1, []), box(2, [idle]), box(3, [stopped], { exited: true })]
    expect(judge(observation({ osSensor, boxes }))).toMatchObject({ node: { kind: 'daemon-stalled', seen: expect.stringContaining('no server\'s sensor has to move') as string }, boxes: [] })
  })

  it('a server\'s sensor moved more than an OS deadline later: daemon-stalled, and no server is condemned', () => {
    expect(judge(observation({ osSensor, boxes: [box(1, [stopped]), box(2, [moving])] }))).toMatchObject({ node: { kind: 'daemon-stalled', sensor: osSensor }, boxes: [] })
  })

  it('a server\'s sensor moved more than an OS deadline later, but has stopped since: os-stalled, for nothing moves any more', () => {
    const later = sensor('os', 5 * deadlineUs)
    expect(judge(observation({ osSensor: later, boxes: [box(1, [stopped]), box(2, [stopped])] }))).toMatchObject({ node: { kind: 'os-stalled', sensor: later }, boxes: [] })
  })

  it('a server\'s sensor stopped at about the same time and is not past its deadline yet: undecided', () => {
    const slow = sensor('event-loop', 1.5 * deadlineUs, { deadlineUs: 10 * deadlineUs, stalled: false })
    expect(judge(observation({ osSensor, boxes: [box(1, [slow])] }))).toBeUndefined()
  })
})

describe('a node without an OS sensor yet', () => {
  it('is alive while its memory is read, and its servers are judged', () => {
    expect(judge(observation({ osSensor: undefined, boxes: [box(1, [stopped])] }))).toMatchObject({ node: { kind: 'alive', seen: 'reads succeed' }, boxes: [{ kind: 'app-stalled' }] })
  })
})

describe('reads fail', () => {
  it.each<[ControlConnection, string]>([
    ['answers', 'daemon-lost'],
    ['reset', 'daemon-lost'],
    ['silent', 'unreachable'],
    ['none', 'unreachable'],
  ])('and the control connection is %s: %s', (control, kind) => {
    expect(judge(observation({ reachable: false, status: 'WC_RETRY_EXC_ERR', control, osSensor: sensor('os', 9 * deadlineUs), boxes: [box(1, [stopped])] }))).toMatchObject({
      node: { kind, seen: expect.stringContaining('WC_RETRY_EXC_ERR') as string }, boxes: [],
    })
  })

  it('and it is not known yet whether the machine answers: undecided', () => {
    expect(judge(observation({ reachable: false, status: 'WC_RETRY_EXC_ERR', control: 'unheard' }))).toBeUndefined()
  })

  it('without any status: the reason is that nothing came back', () => {
    expect(judge(observation({ reachable: false }))?.node.seen).toContain('no answer')
  })
})

describe('any observation', () => {
  const anySensor = fc.record({
    name: fc.string(), counter: fc.nat(), pending: fc.constantFrom(0, 1), ageUs: fc.nat({ max: 10 * deadlineUs }), deadlineUs: fc.constant(deadlineUs), stalled: fc.boolean(),
  })
  const anyObservation: fc.Arbitrary<Observation> = fc.record({
    reachable: fc.boolean(),
    control: fc.constantFrom<ControlConnection>('answers', 'unheard', 'reset', 'silent', 'none'),
    osSensor: fc.option(anySensor, { nil: undefined }),
    kernel: fc.record({ panicked: fc.string({ minLength: 1 }), stalled: fc.string({ minLength: 1 }), moves: fc.string({ minLength: 1 }), movedWithinUs: fc.nat({ max: 10 * deadlineUs }) }, { requiredKeys: [] }),
    boxes: fc.array(fc.record({ box: fc.integer({ min: 1, max: 7 }), name: fc.string(), generation: fc.nat(), exited: fc.boolean(), sensors: fc.array(anySensor, { maxLength: 3 }) }), { maxLength: 4 }),
  })

  it('gives the same judgement each time, of the known kinds, with what was seen', () => {
    fc.assert(fc.property(anyObservation, (seen) => {
      const judgement = judge(seen)
      expect(judge(seen)).toEqual(judgement)
      if (judgement === undefined) return
      expect(nodeVerdicts).toContain(judgement.node.kind)
      for (const verdict of [judgement.node, ...judgement.boxes]) expect(verdict.seen).not.toBe('')
      for (const { kind } of judgement.boxes) expect(boxVerdicts).toContain(kind)
    }))
  })

  it('condemns nobody without evidence', () => {
    fc.assert(fc.property(anyObservation, (seen) => {
      const judgement = judge(seen)
      if (judgement?.node.kind === 'os-stalled' || judgement?.node.kind === 'daemon-stalled') expect(seen.osSensor ? judgement.node.sensor?.stalled : seen.kernel?.stalled !== undefined).toBe(true)
      for (const verdict of judgement?.boxes ?? []) {
        if (verdict.kind === 'app-stalled') expect(verdict.sensor?.stalled).toBe(true)
        if (verdict.kind === 'app-exited') expect(seen.boxes.some(({ exited }) => exited)).toBe(true)
      }
    }))
  })

  it('gives each verdict on the node for its own reason only', () => {
    const isLost = ({ control }: Observation): boolean => control === 'answers' || control === 'reset'
    const reasons: Record<NodeVerdictKind, (seen: Observation) => boolean> = {
      'alive': ({ reachable, osSensor, kernel }) => reachable && !osSensor?.stalled && kernel?.panicked === undefined,
      'os-panicked': ({ reachable, kernel }) => reachable && kernel?.panicked !== undefined,
      'os-stalled': ({ reachable, osSensor, kernel }) => reachable && (osSensor ? osSensor.stalled : kernel?.stalled !== undefined),
      'daemon-stalled': ({ reachable, osSensor, boxes, kernel }) => reachable && osSensor?.stalled === true && (boxes.some(({ exited }) => !exited) || kernel?.moves !== undefined),
      'daemon-lost': (seen) => !seen.reachable && isLost(seen),
      'unreachable': (seen) => !seen.reachable && !isLost(seen) && seen.control !== 'unheard',
      // Only others can tell: `refineUnreachable`.
      'link-cut': () => false,
    }
    fc.assert(fc.property(anyObservation, (seen) => {
      const judgement = judge(seen)
      if (judgement) expect([judgement.node.kind, reasons[judgement.node.kind](seen)]).toEqual([judgement.node.kind, true])
    }), { numRuns: 1000 })
  })

  it('says nothing of a memory that does not answer but what its control connection tells', () => {
    fc.assert(fc.property(anyObservation, (seen) => {
      const judgement = judge({ ...seen, reachable: false })
      expect(judgement?.boxes ?? []).toEqual([])
      expect(judgement?.node.kind).toBe({ answers: 'daemon-lost', reset: 'daemon-lost', silent: 'unreachable', none: 'unreachable', unheard: undefined }[seen.control])
    }))
  })

  it('condemns no server of a node that is not alive itself, and no node whose servers move', () => {
    fc.assert(fc.property(anyObservation, (seen) => {
      const judgement = judge(seen)
      if (judgement && judgement.node.kind !== 'alive') expect(judgement.boxes).toEqual([])
      if (judgement?.node.kind !== 'os-stalled') return
      const atWork = seen.boxes.filter(({ exited }) => !exited).flatMap(({ sensors }) => sensors.filter(({ pending }) => pending > 0))
      // By its kernel a machine is known to have stopped before a sensor that has much time is past it.
      const patienceUs = seen.kernel?.stalled !== undefined && seen.osSensor ? seen.osSensor.deadlineUs : Infinity
      expect(atWork.every(({ stalled, ageUs }) => stalled || ageUs > patienceUs)).toBe(true)
    }))
  })
})

describe('the kernel\'s own variables can be read', () => {
  const panicked = 'panic_cpu is 1, and of 2 CPUs only 1 is online'

  it('it has panicked: os-panicked, whatever the sensors say, and of the node alone', () => {
    const judgement = judge(observation({ kernel: { panicked, moves: 'jiffies moves' }, boxes: [box(1, [moving]), box(2, [stopped])] }))
    expect(judgement).toEqual({ node: { kind: 'os-panicked', seen: panicked }, boxes: [] })
    expect(judge(observation({ osSensor: undefined, kernel: { panicked } }))).toMatchObject({ node: { kind: 'os-panicked' } })
  })

  it('it cannot be read any more: what was seen before does not count', () => {
    expect(judge(observation({ reachable: false, status: 'WC_RETRY_EXC_ERR', control: 'silent', kernel: { panicked, stalled: 'nothing moves' } }))).toMatchObject({ node: { kind: 'unreachable' } })
  })

  it('it has stalled: os-stalled where there is no OS sensor, which otherwise decides', () => {
    const kernel = { stalled: 'CPU 0 is busy, and nothing has moved for 60000 µs' }
    expect(judge(observation({ osSensor: undefined, kernel }))).toEqual({ node: { kind: 'os-stalled', seen: kernel.stalled }, boxes: [] })
    expect(judge(observation({ kernel }))).toMatchObject({ node: { kind: 'alive' } })
  })

  it('it seems to have stalled, but a server moves: alive', () => {
    const kernel = { stalled: 'CPU 0 is busy, and nothing has moved for 60000 µs' }
    expect(judge(observation({ osSensor: undefined, kernel, boxes: [box(1, [moving])] }))).toMatchObject({ node: { kind: 'alive' } })
    expect(judge(observation({ osSensor: undefined, kernel, boxes: [box(1, [stopped])] }))).toMatchObject({ node: { kind: 'os-stalled' } })
  })

  it('it moves: alive, with what was seen', () => {
    expect(judge(observation({ osSensor: undefined, kernel: { moves: 'jiffies moves' } }))).toEqual({ node: { kind: 'alive', seen: 'jiffies moves' }, boxes: [] })
  })
})

describe('the OS sensor is past its deadline, and the kernel\'s own variables can be read', () => {
  const stalled = 'nothing has moved for 60000 µs (deadline 50000 µs), and CPU 0 is busy'
  const moves = 'its kernel moves'
  const osSensor = sensor('os', 4 * deadlineUs)
  const idle = sensor('requests', 0, { pending: 0, stalled: false })
  const quiet = [box(1, []), box(2, [idle])]

  it('no server\'s sensor has to move, and the kernel has stopped: os-stalled, with the word of both', () => {
    expect(judge(observation({ osSensor, boxes: quiet, kernel: { stalled } }))).toEqual({
      node: { kind: 'os-stalled', seen: `the OS sensor has not moved for 200000 µs (deadline 50000 µs), and its kernel has stopped: ${stalled}`, sensor: osSensor },
      boxes: [],
    })
  })

  it('no server\'s sensor has to move, and the kernel moved more than an OS deadline later: daemon-stalled', () => {
    const kernel = { moves, movedWithinUs: 2 * deadlineUs }
    expect(judge(observation({ osSensor, boxes: quiet, kernel }))).toEqual({
      node: { kind: 'daemon-stalled', seen: 'the OS sensor has not moved for 200000 µs (deadline 50000 µs), but its kernel moves', sensor: osSensor },
      boxes: [],
    })
    expect(judge(observation({ osSensor, kernel }))).toMatchObject({ node: { kind: 'daemon-stalled' } })
  })

  it('the kernel may have moved last when the OS sensor did: undecided, for it may have stopped with it', () => {
    expect(judge(observation({ osSensor, boxes: quiet, kernel: { moves, movedWithinUs: 3 * deadlineUs } }))).toBeUndefined()
    expect(judge(observation({ osSensor, kernel: { moves, movedWithinUs: 3 * deadlineUs } }))).toBeUndefined()
  })

  it('the kernel says nothing: as without one', () => {
    expect(judge(observation({ osSensor, boxes: quiet, kernel: {} }))).toEqual(judge(observation({ osSensor, boxes: quiet })))
    expect(judge(observation({ osSensor, kernel: {} }))).toEqual(judge(observation({ osSensor })))
  })

  it('every server\'s sensor has stopped as well: os-stalled, though the kernel moves', () => {
    expect(judge(observation({ osSensor, boxes: [box(1, [stopped])], kernel: { moves, movedWithinUs: 0 } }))).toMatchObject({ node: { kind: 'os-stalled', seen: expect.stringContaining('none of 1 server sensors moves') as string } })
  })

  it('a server\'s sensor has much time left, and has not moved since: the kernel decides', () => {
    const slow = sensor('batch', 3.5 * deadlineUs, { deadlineUs: 100 * deadlineUs, stalled: false })
    expect(judge(observation({ osSensor, boxes: [box(1, [slow])], kernel: { stalled } }))).toMatchObject({ node: { kind: 'os-stalled' } })
    expect(judge(observation({ osSensor, boxes: [box(1, [slow])], kernel: { moves, movedWithinUs: 0 } }))).toBeUndefined()
  })

  it('the kernel seems to have stopped, but a server\'s sensor moves: daemon-stalled', () => {
    expect(judge(observation({ osSensor, boxes: [box(1, [moving]), ...quiet], kernel: { stalled } }))).toMatchObject({ node: { kind: 'daemon-stalled', seen: expect.stringContaining('but event-loop moves') as string } })
  })

  it('the kernel seems to have stopped, but a server\'s sensor may have moved after: undecided', () => {
    const late = sensor('os', 1.5 * deadlineUs)
    expect(judge(observation({ osSensor: late, boxes: [box(1, [sensor('event-loop', 0.9 * deadlineUs)])], kernel: { stalled } }))).toBeUndefined()
  })
})
