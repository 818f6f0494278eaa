/** Where commands write: results to stdout, everything said about them to stderr. */
import type { Writable } from 'node:stream'
import { isBackdoorsError } from '../errors.js'
import { exitCodeOf, exitCodes, type ExitCode } from './exit-codes.js'

export class Output {
  readonly #stdout: Writable
  readonly #stderr: Writable
  /** Set by `BACKDOORS_DEBUG`: errors come with their stacks and causes. */
  readonly #debug: boolean
  /** What the process shall exit with. */
  exitCode: ExitCode = exitCodes.ok

  constructor(stdout: Writable, stderr: Writable, debug: boolean) {
    this.#stdout = stdout
    this.#stderr = stderr
    this.#debug = debug
  }

  /** For who draws on a terminal, or writes until nobody reads. */
  get stdout(): Writable {
    return this.#stdout
  }

  line(text: string): void {
    this.#stdout.write(`${text}\n`)
  }

  /** One line of JSON; 64-bit numbers as hexadecimal text. */
  json(value: unknown): void {
    this.line(JSON.stringify(value, (_, field: unknown) => (typeof field === 'bigint' ? `0x${field.toString(16)}` : field)))
  }

  note(text: string): void {
    this.#stderr.write(`${text}\n`)
  }

  /** Something is missing from an answer that is given all the same. */
  warn(text: string): void {
    this.note(`backdoors: warning: ${oneLine(text)}`)
  }

  /** Does stderr lead to a terminal? */
  get isTerminal(): boolean {
    return (this.#stderr as { isTTY?: boolean }).isTTY === true
  }

  /** Writes over the line that stands on stderr's terminal. */
  overwrite(text: string): void {
    this.#stderr.write(`\r\x1b[K${text}`)
  }

  /** One line that says what is wrong and what to do; with `json` also as an object on stdout. Sets the exit code. */
  error(error: unknown, json: boolean): void {
    this.exitCode = exitCodeOf(error)
    if (json) this.json({ error: describeError(error) })
    const code = isBackdoorsError(error) ? ` (${error.code})` : ''
    this.note(`backdoors: ${oneLine(messageOf(error))}${code}`)
    if (this.#debug && error instanceof Error) this.note(stacksOf(error))
  }
}

/** A reader that goes away (`backdoors status | head -1`) is no failure of ours: what it does not read is dropped. */
export function ignoreBrokenPipe(stream: Writable): void {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
  })
}

/** An error as `--json` shows it. */
export function describeError(error: unknown): Record<string, unknown> {
  return isBackdoorsError(error) ? error.toJSON() : { message: messageOf(error) }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

const oneLine = (text: string): string => text.trim().replaceAll(/\s*\n\s*/g, ' ')

function stacksOf(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${stacksOf(error.cause)}` : ''
  return `${error.stack ?? error.message}${cause}`
}
