/** Child processes of a test that run TypeScript, and are gone when the test is. */
import { spawn, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const hooks = new URL('./typescript-hooks.mjs', import.meta.url).href
const register = `data:text/javascript,${encodeURIComponent(`import { register } from 'node:module'; register(${JSON.stringify(hooks)})`)}`

export interface Child {
  readonly process: ChildProcess
  /** Resolves to the first output that `pattern` matches, of all that has come since the start. */
  said(pattern: RegExp): Promise<RegExpMatchArray>
  /** All that was written, when the process has ended. */
  ended(): Promise<{ stdout: string; stderr: string; code: number | null; signal: NodeJS.Signals | null }>
}

/**
 * @param script relative to this folder
 * @param launcher a command and its arguments that runs the command after them, e.g. `nsenter -t PID -n`
 */
export function startTypescript(script: string, args: readonly string[], nodeOptions: readonly string[] = [], launcher: readonly string[] = []): Child {
  const path = fileURLToPath(new URL(script, import.meta.url))
  const [command, ...rest] = [...launcher, process.execPath, ...nodeOptions, '--import', register, path, ...args]
  const child = spawn(command as string, rest, { stdio: ['pipe', 'pipe', 'pipe'] })
  let stdout = ''
  let stderr = ''
  let ended: { code: number | null; signal: NodeJS.Signals | null } | undefined
  const waiting = new Set<() => void>()
  const wake = (): void => {
    for (const look of [...waiting]) look()
  }
  child.stdout.setEncoding('utf8').on('data', (text: string) => void ((stdout += text), wake()))
  child.stderr.setEncoding('utf8').on('data', (text: string) => void (stderr += text))
  child.once('close', (code, signal) => void ((ended = { code, signal }), wake()))
  const when = <T>(look: () => T | undefined): Promise<T> =>
    new Promise((resolve, reject) => {
      const attempt = (): void => {
        const found = look()
        if (found === undefined && ended === undefined) return
        waiting.delete(attempt)
        if (found === undefined) reject(new Error(`${script} has ended with ${String(ended?.code ?? ended?.signal)}: ${stderr || stdout}`))
        else resolve(found)
      }
      waiting.add(attempt)
      attempt()
    })
  return {
    process: child,
    said: (pattern) => when(() => stdout.match(pattern) ?? undefined),
    ended: () => when(() => (ended === undefined ? undefined : { stdout, stderr, ...ended })),
  }
}
