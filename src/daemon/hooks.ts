/** Commands of the operator's: external fencing and announcing. No shell is involved. */
import { spawn } from 'node:child_process'
import { BackdoorsError, type ErrorCode } from '../errors.js'

export interface HookOptions {
  readonly command: readonly string[]
  readonly timeoutMs: number
  /** Given to the command on its standard input as one line of JSON. */
  readonly input: unknown
  /** Added to the environment. */
  readonly env: Readonly<Record<string, string>>
}

const keptOutputBytes = 4096

/**
 * Runs a command to its end.
 * @returns the last 4 KiB of what it printed
 * @throws BackdoorsError `code`, where it cannot be started, exits with another status than 0, or takes too long
 * (then it is killed)
 */
export function runHook(code: ErrorCode, { command, timeoutMs, input, env }: HookOptions): Promise<string> {
  const [program, ...args] = command
  return new Promise((resolve, reject) => {
    const child = spawn(program as string, args, { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] })
    let output = ''
    const keep = (chunk: Buffer): void => {
      output = (output + chunk.toString('utf8')).slice(-keptOutputBytes)
    }
    const fail = (why: string, cause?: unknown): void => reject(new BackdoorsError(code, `${command.join(' ')}: ${why}${output ? `: ${output.trim()}` : ''}`, { cause }))
    const timer = setTimeout(() => {
      child.kill('SIGKILL')
      fail(`took longer than ${timeoutMs} ms`)
    }, timeoutMs)
    child.stdout.on('data', keep)
    child.stderr.on('data', keep)
    // A command need not read what it is told.
    child.stdin.on('error', () => undefined)
    child.stdin.end(`${JSON.stringify(input)}\n`)
    child.once('error', (cause) => {
      clearTimeout(timer)
      fail(cause.message, cause)
    })
    child.once('close', (status, signal) => {
      clearTimeout(timer)
      if (status === 0) resolve(output)
      else fail(signal ? `was ended by ${signal}` : `exited with ${status}`)
    })
  })
}
