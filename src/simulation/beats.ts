/** What is known, by the simulation alone, of when a sensor really moved: the truth that verdicts are held against. */

export class Beats {
  #lastUs: number
  readonly #gaps: { readonly us: number; readonly endUs: number }[] = []
  readonly #deadlineUs: number

  constructor(nowUs: number, deadlineUs: number) {
    this.#lastUs = nowUs
    this.#deadlineUs = deadlineUs
  }

  beat(nowUs: number): void {
    const us = nowUs - this.#lastUs
    if (us >= this.#deadlineUs) this.#gaps.push({ us, endUs: nowUs })
    this.#lastUs = nowUs
  }

  /** It begins to beat again, and had not been expected to meanwhile. */
  resume(nowUs: number): void {
    this.#lastUs = nowUs
  }

  /** Had it stopped for its whole deadline, at some time since `sinceUs`? */
  stoppedSince(sinceUs: number, nowUs: number): boolean {
    return nowUs - this.#lastUs >= this.#deadlineUs || this.#gaps.some(({ endUs }) => endUs >= sinceUs)
  }
}
