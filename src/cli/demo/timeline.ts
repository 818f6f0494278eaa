/** What happened, line by line, hardly later than it happens. */
import type { Writable } from 'node:stream'

export type Style = (format: keyof typeof formats, text: string) => string

const formats = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const

/** Colours where they are seen: on a terminal, unless `NO_COLOR` is set. */
export function styleFor(stream: Writable & { readonly isTTY?: boolean }, env: Readonly<Record<string, string | undefined>>): Style {
  if (!stream.isTTY || env['NO_COLOR']) return (_, text) => text
  return (format, text) => `\u001b[${formats[format]}m${text}\u001b[0m`
}

const timeColumns = 11
const whoColumns = 9
/** Lines of several processes come in by several pipes: they are held for so long, in milliseconds, to be put in order. */
const heldMs = 120
const flushEveryMs = 30

interface Line {
  readonly atMs: number
  readonly saidMs: number
  readonly text: string
}

export class Timeline {
  readonly #write: (text: string) => void
  readonly #style: Style
  readonly #timer: NodeJS.Timeout
  #held: Line[] = []
  #zeroMs: number | undefined

  constructor(write: (text: string) => void, style: Style) {
    this.#write = write
    this.#style = style
    this.#timer = setInterval(() => this.#flush(performance.now() - heldMs), flushEveryMs).unref()
  }

  /** Times are told since this moment; before it there are none to tell. */
  startAt(atMs: number): void {
    this.#flush(Infinity)
    this.#zeroMs = atMs
  }

  /** @param detail the evidence, on a line of its own */
  say(atMs: number, who: string, what: string, detail?: string): void {
    const time = this.#zeroMs === undefined ? '' : `${(atMs - this.#zeroMs).toFixed(1)} ms`
    const head = `${this.#style('dim', time.padStart(timeColumns))}  ${this.#style('cyan', who.padEnd(whoColumns))} ${what}\n`
    const evidence = detail ? `${' '.repeat(timeColumns + whoColumns + 3)}${this.#style('dim', detail)}\n` : ''
    this.#held.push({ atMs, saidMs: performance.now(), text: head + evidence })
  }

  /** The demo itself does something to the cluster. */
  act(atMs: number, what: string): void {
    this.say(atMs, 'demo', this.#style('yellow', what))
  }

  /** Writes what is held still. */
  flush(): void {
    this.#flush(Infinity)
  }

  /** Writes what is held still, and ends. Idempotent. */
  close(): void {
    clearInterval(this.#timer)
    this.flush()
  }

  #flush(untilMs: number): void {
    const due = this.#held.filter(({ saidMs }) => saidMs <= untilMs)
    if (due.length === 0) return
    // Whatever happened before the last of these goes with them, however late it was said.
    const lastMs = Math.max(...due.map(({ atMs }) => atMs))
    const [now, later] = [this.#held.filter(({ atMs }) => atMs <= lastMs), this.#held.filter(({ atMs }) => atMs > lastMs)]
    this.#held = later
    for (const { text } of now.sort((a, b) => a.atMs - b.atMs)) this.#write(text)
  }
}
