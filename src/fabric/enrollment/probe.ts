/** Does the machine behind an address answer at all? Evidence to tell `daemon-lost` from `unreachable`. */
import { connect } from 'node:net'
import { systemClock } from './clock.js'
import type { Clock } from './clock.js'

export interface ProbeResult {
  /**
   * `answers`: its network stack took the connection or refused it, so its kernel runs.
   * `silent`: nothing came back in time, or the network knows no way to it.
   * `unknown`: this machine could not even ask; that says nothing about the other.
   */
  readonly outcome: 'answers' | 'silent' | 'unknown'
  /** What was seen: `connected`, or the name of the errno. */
  readonly seen: string
}

const answers: ReadonlySet<string> = new Set(['ECONNREFUSED', 'ECONNRESET'])
const silences: ReadonlySet<string> = new Set(['ETIMEDOUT', 'EHOSTUNREACH', 'EHOSTDOWN'])

/**
 * Knocks at a TCP port and goes away; nothing is sent. Anyone in the path can forge the answer, so it may only
 * ever soften a verdict. Takes `timeoutMs` at most.
 */
export async function probeMachine(address: { readonly host: string; readonly port: number }, timeoutMs: number, clock: Clock = systemClock): Promise<ProbeResult> {
  return await new Promise((resolve) => {
    const socket = connect({ host: address.host, port: address.port })
    const settle = (outcome: ProbeResult['outcome'], seen: string): void => {
      timer.cancel()
      socket.destroy()
      resolve({ outcome, seen })
    }
    const timer = clock.after(timeoutMs, () => settle('silent', 'ETIMEDOUT'))
    socket.once('connect', () => settle('answers', 'connected'))
    socket.on('error', (error: NodeJS.ErrnoException) => {
      const { code = 'UNKNOWN' } = error
      settle(answers.has(code) ? 'answers' : silences.has(code) ? 'silent' : 'unknown', code)
    })
  })
}
