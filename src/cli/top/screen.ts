/** The terminal as a screen of its own, that is redrawn in place and given back as it was. */
import type { Readable, Writable } from 'node:stream'

/** What of a terminal's two streams is used; `process.stdout` and `process.stdin` are such. */
export type TerminalOutput = Writable & { readonly isTTY?: boolean; readonly columns?: number; readonly rows?: number }
export type TerminalInput = Readable & { readonly isTTY?: boolean; setRawMode?(raw: boolean): unknown }

/** Its alternate screen, without a cursor, and without wrapping: what is too long is cut. */
const enter = '\x1b[?1049h\x1b[?25l\x1b[?7l'
const leave = '\x1b[?7h\x1b[?25h\x1b[?1049l'
/** To the top left corner, without clearing what is overwritten: that would flicker. */
const home = '\x1b[H'
const clearLine = '\x1b[K'
const clearBelow = '\x1b[J'
/** Terminals that know of it show what stands between the two at once. */
const beginUpdate = '\x1b[?2026h'
const endUpdate = '\x1b[?2026l'

/** In raw mode Ctrl-C is a key like any other. */
const quitKeys = new Set([0x71, 0x51, 0x03, 0x04])

export class Screen {
  readonly #output: TerminalOutput
  readonly #input: TerminalInput
  readonly #onResize: () => void
  readonly #onData: (keys: Buffer) => void
  #closed = false

  /** @param onQuit the user wants no more: q, Ctrl-C, or Ctrl-D */
  constructor(output: TerminalOutput, input: TerminalInput, onResize: () => void, onQuit: () => void) {
    this.#output = output
    this.#input = input
    this.#onResize = onResize
    this.#onData = (keys) => {
      if (keys.some((key) => quitKeys.has(key))) onQuit()
    }
    output.write(enter)
    output.on('resize', onResize)
    if (input.isTTY !== true) return
    input.setRawMode?.(true)
    input.on('data', this.#onData)
    input.resume()
  }

  get size(): { width: number; height: number } {
    return { width: this.#output.columns ?? 80, height: this.#output.rows ?? 24 }
  }

  draw(frame: string): void {
    if (this.#closed) return
    this.#output.write(`${beginUpdate}${home}${frame.split('\n').map((line) => `${line}${clearLine}`).join('\r\n')}${clearBelow}${endUpdate}`)
  }

  /** The terminal is as it was before. Idempotent. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#output.off('resize', this.#onResize)
    this.#output.write(leave)
    if (this.#input.isTTY !== true) return
    this.#input.off('data', this.#onData)
    this.#input.setRawMode?.(false)
    this.#input.pause()
  }
}
