import { expect, test } from 'vitest'
import { HandshakeGate } from './handshake-gate.js'

function arrivals(limit: number): { gate: HandshakeGate; evicted: string[]; arrive: (address: string, name: string) => () => void } {
  const gate = new HandshakeGate(limit)
  const evicted: string[] = []
  return { gate, evicted, arrive: (address, name) => gate.admit(address, () => evicted.push(name)) }
}

test('as many as the limit are let in', () => {
  const { gate, evicted, arrive } = arrivals(2)
  arrive('a', 'a1')
  const leave = arrive('b', 'b1')
  leave()
  leave()
  arrive('b', 'b2')
  expect(evicted).toEqual([])
  expect(gate.size).toBe(2)
})

test('one too many costs the most crowded address its oldest', () => {
  const { gate, evicted, arrive } = arrivals(3)
  arrive('good', 'good')
  for (let index = 0; index < 5; index += 1) arrive('bad', `bad${index}`)
  expect(evicted).toEqual(['bad0', 'bad1', 'bad2'])
  expect(gate.size).toBe(3)
})

test('who was evicted has left already', () => {
  const { gate, arrive } = arrivals(1)
  const leaveFirst = arrive('a', 'a1')
  arrive('a', 'a2')
  leaveFirst()
  expect(gate.size).toBe(1)
})
