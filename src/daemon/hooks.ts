/** Commands of the operator's: external fencing and announcing. No shell is involved. */
import { BackdoorsError, type ErrorCode } from '../errors.js'
import { runProgram } from './child-program.js'

export interface HookOptions {
  readonly command: readonly string[]
  readonly timeoutMs: number
  /** Given to the command on its standard input as one line of JSON. */
  readonly input: unknown
  /** Added to the environment. */
  readonly env: Readonly<Record<string, string>>
}

const keptCharacters = 4096

/**
 * Runs a command to its end.
 * @returns the last 4 KiB of what it printed: its errors, after its output
 * @throws BackdoorsError `code`, where it cannot be started, exits with another status than 0, or takes too long
 * (then it is killed, with all that it has started)
 */
export async function runHook(code: ErrorCode, { command, timeoutMs, input, env }: HookOptions): Promise<string> {
  const [program, ...args] = command
  const end = await runProgram({ program: program as string, args, input: `${JSON.stringify(input)}\n`, env: { ...process.env, ...env }, timeoutMs, keptCharacters })
  const output = (end.stdout.text + end.stderr.text).slice(-keptCharacters)
  if (end.status === 0) return output
  throw new BackdoorsError(code, `${command.join(' ')}: ${end.how}${output ? `: ${output.trim()}` : ''}`, { cause: end.cause })
}
