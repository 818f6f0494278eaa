/** How the parts of the example tell what happens to them: JSON lines on stdout, with CLOCK_MONOTONIC in milliseconds. */
import { monotonicMs } from '../../src/native/clock.js'

export type Say = (event: string, fields?: object) => void

export const sayer = (): Say => (event, fields = {}) => void process.stdout.write(`${JSON.stringify({ event, atMs: monotonicMs(), ...fields })}\n`)
