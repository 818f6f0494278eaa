import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { dueUs, isFlapping, onTime, onVerdict, startOver, untold, urgentVerdicts, type FlappingRule, type Telling, type VerdictKind } from './flapping.js'

const rule: FlappingRule = { flips: 3, windowUs: 10_000, holdUs: 100, longestHoldUs: 1000 }

/** Plays verdicts in time, and what falls due between them; collects what is told. */
class Player {
  state: Telling = untold
  readonly told: { atUs: number; kind: VerdictKind }[] = []
  nowUs = 0

  verdict(kind: VerdictKind, afterUs = 1): boolean {
    this.advance(afterUs)
    return this.take(onVerdict(this.state, kind, this.nowUs, rule))
  }

  advance(us: number): void {
    const endUs = this.nowUs + us
    for (let atUs = dueUs(this.state); atUs !== undefined && atUs <= endUs; atUs = dueUs(this.state)) {
      this.nowUs = Math.max(this.nowUs, atUs)
      this.take(onTime(this.state, this.nowUs, rule))
    }
    this.nowUs = endUs
  }

  take({ state, tell }: { state: Telling; tell: boolean }): boolean {
    this.state = state
    if (tell) this.told.push({ atUs: this.nowUs, kind: state.current })
    return tell
  }

  get kinds(): VerdictKind[] {
    return this.told.map(({ kind }) => kind)
  }
}

describe('a subject', () => {
  it('that changes now and then is told every time, the same twice only once', () => {
    const player = new Player()
    for (const kind of ['unreachable', 'unreachable', 'alive', 'daemon-lost', 'unreachable', 'link-cut'] as const) player.verdict(kind)
    expect(player.kinds).toEqual(['unreachable', 'alive', 'daemon-lost', 'unreachable', 'link-cut'])
  })

  it('that flaps is held down, for longer each time, and what stands then is told', () => {
    const player = new Player()
    for (let i = 0; i < 3000; i++) player.verdict(i % 2 === 0 ? 'unreachable' : 'alive')
    expect(isFlapping(player.state, player.nowUs, rule)).toBe(true)
    // Three in time, the fourth flip begins the first hold; a hold that ends at the very same verdict waits for the next.
    const gaps = player.told.slice(3).map(({ atUs }, i, all) => atUs - (all[i - 1]?.atUs ?? atUs)).slice(1)
    expect(gaps.length).toBeGreaterThan(3)
    expect(gaps.every((gap, i) => gap >= Math.min(1000, 100 * 2 ** i))).toBe(true)
    expect(player.state.held).toBeGreaterThan(0)
  })

  it('that has come to rest is told as it is, and is told at once again later', () => {
    const player = new Player()
    for (let i = 0; i < 9; i++) player.verdict(i % 2 === 0 ? 'unreachable' : 'alive')
    player.advance(rule.longestHoldUs)
    expect(player.kinds.at(-1)).toBe('unreachable')
    player.advance(rule.windowUs)
    expect(isFlapping(player.state, player.nowUs, rule)).toBe(false)
    expect(player.verdict('alive')).toBe(true)
    expect(player.state).toMatchObject({ holds: 0, heldUntilUs: undefined, held: 0 })
  })

  it('that leads to a recovery is told each time, also where it was judged anew', () => {
    const player = new Player()
    for (let i = 0; i < 20; i++) player.verdict(i % 2 === 0 ? 'app-exited' : 'alive')
    expect(player.kinds.filter((kind) => kind === 'app-exited')).toHaveLength(10)
    expect(player.verdict('app-exited')).toBe(true)
    expect(player.verdict('app-exited')).toBe(true)
  })

  it('with a new owner each time flaps, though nobody ever said that it was alive', () => {
    const player = new Player()
    for (let i = 0; i < 3; i++) {
      player.verdict('app-exited')
      player.state = startOver(player.state, player.nowUs, rule)
    }
    expect(isFlapping(player.state, player.nowUs, rule)).toBe(true)
    expect(player.kinds).toEqual(['app-exited', 'app-exited', 'app-exited'])
    expect(startOver(untold, 5, rule)).toBe(untold)
  })
})

describe('any verdicts at any times', () => {
  const kinds = fc.constantFrom<VerdictKind>('alive', 'alive', 'alive', 'unreachable', 'link-cut', 'daemon-lost', 'daemon-stalled', 'os-panicked', 'os-stalled', 'app-stalled', 'app-exited')
  const story = fc.array(fc.record({ kind: kinds, afterUs: fc.integer({ min: 0, max: 3000 }) }), { maxLength: 120 })

  it('what leads to a recovery is told at once', () => {
    fc.assert(fc.property(story, (steps) => {
      const player = new Player()
      for (const { kind, afterUs } of steps) if (player.verdict(kind, afterUs)) expect(player.told.at(-1)).toEqual({ atUs: player.nowUs, kind })
        else expect(urgentVerdicts.has(kind)).toBe(false)
    }))
  })

  it('in the end what stands is what was told', () => {
    fc.assert(fc.property(story, (steps) => {
      const player = new Player()
      for (const { kind, afterUs } of steps) player.verdict(kind, afterUs)
      player.advance(rule.longestHoldUs)
      expect(player.told.at(-1)?.kind ?? 'alive').toBe(steps.at(-1)?.kind ?? 'alive')
      expect(dueUs(player.state)).toBeUndefined()
    }))
  })

  it('who does not flap is told of every change at once', () => {
    fc.assert(fc.property(story, (steps) => {
      const player = new Player()
      let last: VerdictKind = 'alive'
      for (const { kind, afterUs } of steps) {
        const told = player.verdict(kind, afterUs)
        if (!isFlapping(player.state, player.nowUs, rule) && kind !== last && (player.told.at(told ? -2 : -1)?.kind ?? 'alive') !== kind) expect(told).toBe(true)
        last = kind
      }
    }))
  })

  it('what flaps is not told twice within the shortest hold, but for what leads to a recovery', () => {
    fc.assert(fc.property(story, (steps) => {
      const player = new Player()
      for (const { kind, afterUs } of steps) {
        const heldUntilUs = player.state.heldUntilUs
        const told = player.verdict(kind, afterUs)
        const isHeld = heldUntilUs !== undefined && player.nowUs < heldUntilUs
        if (told && isHeld && isFlapping(player.state, player.nowUs, rule)) expect(urgentVerdicts.has(kind)).toBe(true)
      }
    }))
  })

  it('what is remembered is bounded', () => {
    fc.assert(fc.property(story, (steps) => {
      const player = new Player()
      for (const { kind, afterUs } of steps) player.verdict(kind, afterUs)
      expect(player.state.flipsUs.length).toBeLessThanOrEqual(rule.flips + 1)
    }))
  })
})
