import { expect, it } from 'vitest'
import { taskState } from './task-state.js'

it.each<[string, string, number, number]>([
  ['running', 'R', 0, 0], ['sleeping', 'S', 1, 0], ['sleeping, to be frozen', 'S', 0x2001, 0], ['sleeping uninterruptibly', 'D', 2, 0], ['sleeping killably', 'D', 0x102, 0],
  ['waiting for a lock of a real-time kernel', 'D', 0x1000, 0], ['stopped', 'T', 0x104, 0], ['traced', 't', 0x108, 0], ['dead', 'X', 0x80, 0x10], ['a zombie', 'Z', 0x80, 0x20],
  ['parked', 'P', 0x40, 0], ['an idle kernel thread', 'I', 0x402, 0], ['an idle kernel thread, to be frozen', 'I', 0x2402, 0], ['several at once', 'P', 0x7f, 0x1],
])('%s is %s', (_, letter, state, exitState) => {
  expect(taskState(state, exitState)).toBe(letter)
})

it('is one of the letters, whatever stands in memory', () => {
  for (const state of [0xffff_ffff, 0x8000_0000, 0x1fff]) for (const exitState of [0, 0xffff_ffff]) expect(taskState(state, exitState)).toMatch(/^[RSDTtXZPI]$/)
})
