/** How far long work has come, on stderr. */
import type { Output } from './output.js'
import { formatBytes } from './quantities.js'

/** A line is printed for each so many percent where there is no terminal to print one over another. */
const percentPerLine = 10

export class Progress {
  readonly #output: Output
  /** `undefined` where nothing is to be said. */
  readonly #style: 'terminal' | 'lines' | undefined
  #last: { readonly step: string; readonly percent: number } | undefined

  /** @param isWanted where stderr is no terminal, too */
  constructor(output: Output, isWanted: boolean) {
    this.#output = output
    this.#style = output.isTerminal ? 'terminal' : isWanted ? 'lines' : undefined
  }

  /** @param done of `total`, both in bytes */
  show(step: string, done: number, total: number): void {
    if (this.#style === undefined) return
    const exact = total === 0 ? 100 : Math.floor((done / total) * 100)
    const percent = this.#style === 'terminal' ? exact : exact - (exact % percentPerLine)
    if (this.#last?.step === step && this.#last.percent === percent) return
    this.#last = { step, percent }
    // Of a single step there is nothing to count.
    const text = total <= 1 ? `${step} …` : `${step}: ${percent} % of ${formatBytes(total)}`
    if (this.#style === 'terminal') this.#output.overwrite(text)
    else if (total > 1 || done === 0) this.#output.note(text)
  }

  /** Leaves the terminal's line empty for what comes next. */
  end(): void {
    if (this.#style === 'terminal' && this.#last !== undefined) this.#output.overwrite('')
    this.#last = undefined
  }
}
