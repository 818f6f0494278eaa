/** Runs a program of the operator's to its end, within its time. No shell is involved. */
import { spawn } from 'node:child_process'

export interface ProgramOptions {
  readonly program: string
  readonly args?: readonly string[]
  /** All of the program's standard input. */
  readonly input: string
  /** The whole environment. */
  readonly env: NodeJS.ProcessEnv
  readonly timeoutMs: number
  /** So much of the end of each of its two outputs is kept, in characters. */
  readonly keptCharacters: number
}

export interface ProgramEnd {
  /** Its exit status; undefined where it did not end by itself. */
  readonly status: number | undefined
  /** How it ended, in words that follow its name: `exited with 1`, `took longer than 300 ms`. */
  readonly how: string
  /** Where it could not be started. */
  readonly cause?: Error
  readonly stdout: Tail
  readonly stderr: Tail
}

/** The end of an output. */
export interface Tail {
  readonly text: string
  /** Has something of its beginning been dropped? */
  readonly isCut: boolean
}

/** Never rejects. At its time-out the program is killed, together with all that it has started. */
export function runProgram({ program, args = [], input, env, timeoutMs, keptCharacters }: ProgramOptions): Promise<ProgramEnd> {
  return new Promise((resolve) => {
    // A group of its own, so that the helpers it has started can be killed with it.
    const child = spawn(program, args, { env, stdio: ['pipe', 'pipe', 'pipe'], detached: true })
    const stdout = tailOf(child.stdout, keptCharacters)
    const stderr = tailOf(child.stderr, keptCharacters)
    const end = (how: string, status?: number, cause?: Error): void => {
      clearTimeout(timer)
      resolve({ how, status, stdout: stdout(), stderr: stderr(), ...(cause ? { cause } : {}) })
    }
    const timer = setTimeout(() => {
      killGroup(child.pid)
      end(`took longer than ${timeoutMs} ms`)
    }, timeoutMs)
    // A program need not read what it is told.
    child.stdin.on('error', () => undefined)
    child.stdin.end(input)
    child.once('error', (cause) => end(cause.message, undefined, cause))
    child.once('close', (status, signal) => end(signal ? `was ended by ${signal}` : `exited with ${status}`, status ?? undefined))
  })
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // It has just ended by itself.
  }
}

function tailOf(stream: NodeJS.ReadableStream, keptCharacters: number): () => Tail {
  let text = ''
  let isCut = false
  // Characters that come in two pieces are put together.
  stream.setEncoding('utf8')
  stream.on('data', (chunk: string) => {
    isCut ||= text.length + chunk.length > keptCharacters
    text = (text + chunk).slice(-keptCharacters)
  })
  return () => ({ text, isCut })
}
