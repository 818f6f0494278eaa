/** A process in a guest that is asked by lines on its standard input, and answers each by a line on its standard output. */
import type { GuestProcess } from './guest-process.js'

export class AnsweringProcess {
  readonly #lines: string[] = []
  #ended = false
  #wake: () => void = () => undefined

  /** @param timeoutMs of each answer: a process that is later is killed */
  constructor(
    readonly process: GuestProcess,
    private readonly timeoutMs: number,
  ) {
    process.on('line', (text, stream) => {
      if (stream === 'stdout') this.#lines.push(text)
      this.#wake()
    })
    const end = (): void => {
      this.#ended = true
      setImmediate(() => this.#wake()) // after the last line
    }
    process.closed.then(end, end)
  }

  /** One question at a time. @throws GuestCommandError when the process ends before it has answered, or is too late */
  async ask(question: string): Promise<string> {
    this.process.write(`${question}\n`)
    return this.next()
  }

  /** The next line that it prints. @throws as `ask` */
  next(): Promise<string> {
    return this.process.within(this.timeoutMs, this.#next())
  }

  /** It ends with its input. */
  async end(): Promise<void> {
    this.process.endInput()
    await this.process.result(10_000)
  }

  async #next(): Promise<string> {
    for (;;) {
      const line = this.#lines.shift()
      if (line !== undefined) return line
      if (this.#ended) throw this.process.failure('ended before it answered')
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }
}
