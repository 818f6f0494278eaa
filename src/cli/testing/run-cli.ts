/** Runs a command line in this process, and keeps what it printed. */
import { Writable } from 'node:stream'
import type { ExitCode } from '../exit-codes.js'
import { run } from '../run.js'

export interface CliResult {
  readonly exitCode: ExitCode
  readonly stdout: string
  readonly stderr: string
}

class Kept extends Writable {
  text = ''

  override _write(chunk: Buffer, _: BufferEncoding, done: () => void): void {
    this.text += chunk.toString('utf8')
    done()
  }
}

/** @param argv as on a shell, split at spaces, or as a list where an argument holds one */
export async function runCli(argv: string | readonly string[], env: Record<string, string> = {}): Promise<CliResult> {
  const stdout = new Kept()
  const stderr = new Kept()
  const words = typeof argv === 'string' ? argv.split(' ').filter(Boolean) : argv
  const exitCode = await run(words, { stdout, stderr, env })
  return { exitCode, stdout: stdout.text, stderr: stderr.text }
}

/** The last line of stdout, as JSON. */
export const jsonOf = ({ stdout }: CliResult): unknown => JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '')
