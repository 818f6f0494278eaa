import { describe, expect, it } from 'vitest'
import type { Incident } from '../../daemon/incidents.js'
import type { DaemonStatus, PeerStatus } from '../../daemon/status.js'
import type { ObservedSensor } from '../../monitor/verdict.js'
import { renderFrame, sparkline } from './frame.js'
import { Pulses, type Beats } from './pulses.js'

const sensor = (name: string, counter: number, more: Partial<ObservedSensor> = {}): ObservedSensor => ({ name, counter, pending: 1, ageUs: 400, deadlineUs: 50_000, stalled: false, ...more })

const peerOf = (peer: string, more: Partial<PeerStatus> = {}): PeerStatus => ({
  peer, connected: true, verdict: 'alive', seen: 'the OS sensor moves', incarnation: '1', control: 'answers',
  osSensor: sensor('os', 7), servers: [{ box: 1, name: 'shop', generation: 1, exited: false, sensors: [sensor('event-loop', 3)] }],
  rounds: 1234, failedRounds: 5, meanRoundTripUs: 3.2, maxLatenessUs: 1500, ...more,
})

const incident: Incident = {
  id: 1, peer: 'c', startedAt: '2026-01-02T03:04:05.000Z', lastMovedAtMs: 940, suspectedAtMs: 1000, attempts: 1, outcome: 'announced', lost: 1,
  verdicts: [{ peer: 'c', verdict: 'os-stalled', atMs: 1000, evidence: { by: 'a', atUs: 1_000_000, seen: 'it stands still' } }],
  steps: [{ step: 'suspected', atMs: 1001 }, { step: 'fenced', atMs: 1002 }, { step: 'announced', atMs: 1005 }],
  sessions: { found: 9, adopted: 8, known: 0, refused: 1, expired: 0, corrupt: 0, stale: 0 },
}

const statusOf = (peers: readonly PeerStatus[], incidents: readonly Incident[] = [], more: Partial<DaemonStatus> = {}): DaemonStatus => ({
  node: 'a', cluster: 'test', incarnation: '1', region: '/dev/shm/a', fabric: 'shm', fenced: false, servers: ['web'], waitingSessions: 2, membership: { source: 'static', members: [] },
  peers, plan: [], incidents, history: [], nowMs: 2000, ...more,
})

const wide = { width: 100, height: 40 }
const render = (status: DaemonStatus, size = wide, colours = false, pulses = new Pulses()): string => renderFrame(status, pulses, size, colours)
const moved = (...beats: number[]): Beats[] => beats.map((beat) => ({ moved: beat, stalled: false, idle: false }))

describe('a frame', () => {
  it('shows nodes, sensors, verdicts, round trips and incidents', () => {
    const still = sensor('os', 9, { stalled: true, ageUs: 7_000_000 })
    const peers = [peerOf('b'), peerOf('c', { verdict: 'os-stalled', seen: 'it stands still', osSensor: still, servers: [] })]
    expect(render(statusOf(peers, [incident])).split('\n')).toEqual([
      'node a of cluster test, over shm',
      'peers alive 1 of 2 · servers here: web · waiting sessions 2',
      '',
      '✓ b            alive           rtt 3 µs · 1234 rounds, 5 failed · late ≤ 1.5 ms',
      '    machine os                                  moves     400 µs ago of 50.0 ms',
      '    shop event-loop                             moves     400 µs ago of 50.0 ms',
      '',
      '✕ c            os-stalled      rtt 3 µs · 1234 rounds, 5 failed · late ≤ 1.5 ms',
      '    it stands still',
      '    machine os                                  STALLED    7.0 s ago of 50.0 ms',
      '',
      'incidents (1)',
      '  03:04:05 c: os-stalled  announced in 65.0 ms: 8 adopted, 1 lost',
      '    moved → suspected +60.0 ms → fenced +2.0 ms → announced +3.0 ms',
    ])
  })

  it('shows what is measured of a machine and its servers beside the limits, and percentiles of round trips', () => {
    const gauges = [
      { sensor: 'mem-used-bytes', value: 3 * 2 ** 30, limit: 24e9 }, { sensor: 'open-files', value: 1721, limit: 2_219_559.3 }, { sensor: 'cpu-stall-pct', value: 98.97, limit: 90 },
      { sensor: 'load-1min-tasks', value: 0, limit: 8 }, { server: 'shop', sensor: 'loop-delay-ms', value: 1.25, limit: 25 },
    ]
    const lines = render(statusOf([peerOf('b', { gauges, roundTripUs: { p50: 2.048, p99: 6.144 } })]), { width: 140, height: 30 }).split('\n')
    expect(lines[3]).toMatch(/rtt p50 2 µs, p99 6 µs · 1234 rounds/)
    expect(lines.slice(6, 9).map((line) => line.replaceAll(/ {2,}/g, '  '))).toEqual([
      '  machine  mem-used-bytes 3 GiB of 22.4 GiB  open-files 1720 of 2220000  ! cpu-stall-pct 99% of 90%',
      '  load-1min-tasks 0 of 8',
      '  shop  loop-delay-ms 1.25 of 25',
    ])
  })

  it('says where nobody is watched, nobody is connected, a server is gone, this node is fenced', () => {
    expect(render(statusOf([]))).toContain('watches nobody')
    expect(render(statusOf([{ peer: 'b', connected: false, verdict: 'alive', seen: 'nothing yet' }]))).toMatch(/\? b +not connected/)
    expect(render(statusOf([peerOf('b', { servers: [{ box: 1, name: 'shop', generation: 1, exited: true, sensors: [sensor('event-loop', 3)] }] })]))).toMatch(/! b +server failed[^]*shop event-loop .* GONE/)
    expect(render(statusOf([], [], { fenced: true }))).toContain('FENCED')
    expect(render(statusOf([]))).toContain('no incidents')
  })

  it('never has a line longer than the terminal is wide, nor more lines than it is high', () => {
    const peers = Array.from({ length: 30 }, (_, i) => peerOf(`node-${i}`))
    const incidents = Array.from({ length: 30 }, (_, id) => ({ ...incident, id }))
    for (const width of [1, 2, 10, 40, 79, 200]) for (const height of [1, 2, 3, 5, 10, 24, 60]) {
      const lines = render(statusOf(peers, incidents), { width, height }).split('\n')
      expect(lines.length).toBeLessThanOrEqual(height)
      for (const line of lines) expect(Array.from(line).length).toBeLessThanOrEqual(width)
    }
  })

  it('says how much there was no room for, and keeps a third for incidents', () => {
    const peers = Array.from({ length: 30 }, (_, i) => peerOf(`node-${i}`))
    const lines = render(statusOf(peers, [incident, { ...incident, id: 2, peer: 'd' }]), { width: 100, height: 24 }).split('\n')
    expect(lines).toHaveLength(24)
    expect(lines.filter((line) => line.includes('lines more'))).toHaveLength(1)
    expect(lines.findIndex((line) => line.startsWith('incidents (2)'))).toBeGreaterThan(0)
    // The newest stands first.
    expect(lines.find((line) => line.includes('os-stalled'))).toContain(' d: ')
  })

  it('has the same words with colours as without', () => {
    const status = statusOf([peerOf('b'), peerOf('c', { verdict: 'unreachable' })], [incident])
    // eslint-disable-next-line no-control-regex -- that is what is looked for
    const bare = render(status, wide, true).replaceAll(/\x1b\[[0-9;]*m/g, '').split('\n').map((line) => line.trimEnd())
    expect(bare).toEqual(render(status).split('\n'))
    expect(render(status, wide, true)).toContain('\x1b[1;31m✕ c')
  })

  it('shows what a strange memory wrote, and does not obey it', () => {
    const evil = '\x1b]0;owned\x07\u202e'
    const servers = [{ box: 1, name: evil, generation: 1, exited: false, sensors: [sensor(evil, 1)] }]
    const text = render(statusOf([peerOf('b', { servers, seen: evil, verdict: 'daemon-stalled' })], [{ ...incident, server: evil }]))
    expect(text).toContain('\\x1b]0;owned\\x07')
    // eslint-disable-next-line no-control-regex -- that is what must not be there
    expect(text).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f\u202e]/)
  })
})

describe('a pulse', () => {
  it('is to the scale of its own sensor', () => {
    expect(sparkline(moved(1, 2, 4, 8), 4)).toBe('▂▃▅█')
    expect(sparkline(moved(800, 400), 4)).toBe('  █▅')
  })

  it('tells what stood still from what had nothing to do, what was late, and what is not known', () => {
    expect(sparkline([{ moved: undefined, stalled: false, idle: false }, { moved: 0, stalled: false, idle: false }, { moved: 0, stalled: false, idle: true }, { moved: 0, stalled: true, idle: false }], 4)).toBe(' _·✕')
  })

  it('follows each sensor from frame to frame, over a counter that wraps, and begins anew with a new incarnation', () => {
    const pulses = new Pulses()
    const add = (counter: number, incarnation = '1'): void => pulses.add({ peers: [peerOf('b', { incarnation, osSensor: sensor('os', counter) })] })
    for (const counter of [0xffff_fffe, 3, 13]) add(counter)
    expect(pulses.of('b', undefined, 'os').map(({ moved: by }) => by)).toEqual([undefined, 5, 10])
    add(14, '2')
    expect(pulses.of('b', undefined, 'os').map(({ moved: by }) => by)).toEqual([undefined])
    for (let i = 0; i < 100; i++) add(i, '2')
    expect(pulses.of('b', undefined, 'os')).toHaveLength(32)
    pulses.add({ peers: [] })
    expect(pulses.of('b', undefined, 'os')).toEqual([])
  })
})
