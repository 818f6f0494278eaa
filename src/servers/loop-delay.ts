/** How late the event loop runs, from the timer that beats its sensor anyway: nothing more has to run for it. */
import type { SensorHandle } from '../region/sensor-handle.js'

export const loopDelaySensor = 'loop-delay-ms'
/** A box smaller than this is left to the sensors that the server makes itself. */
export const leastSensorsForLoopDelay = 8
/** The sensor shows the worst of the last one to two of these, in milliseconds. */
const windowMs = 1000

export class LoopDelay {
  readonly #sensor: SensorHandle
  readonly #everyMs: number
  readonly #limitMs: number
  #lastMs: number
  #windowSinceMs: number
  #worstMs = 0
  #worstBeforeMs = 0

  /** @param everyMs how often `beat` is to be called @param limitMs a delay beyond which the server is under pressure */
  constructor(sensor: SensorHandle, { everyMs, limitMs, nowMs }: { everyMs: number; limitMs: number; nowMs: number }) {
    this.#sensor = sensor
    this.#everyMs = everyMs
    this.#limitMs = limitMs
    this.#lastMs = nowMs
    this.#windowSinceMs = nowMs
    sensor.level(0, limitMs)
  }

  /** The timer has run. */
  beat(nowMs: number): void {
    const lateMs = Math.max(0, nowMs - this.#lastMs - this.#everyMs)
    this.#lastMs = nowMs
    if (nowMs - this.#windowSinceMs >= windowMs) {
      this.#worstBeforeMs = nowMs - this.#windowSinceMs >= 2 * windowMs ? 0 : this.#worstMs
      this.#worstMs = 0
      this.#windowSinceMs = nowMs
    }
    this.#worstMs = Math.max(this.#worstMs, lateMs)
    this.#sensor.level(Math.max(this.#worstMs, this.#worstBeforeMs), this.#limitMs)
  }
}
