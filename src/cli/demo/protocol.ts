/** What the demo's clients and servers say to each other: JSON lines over TCP on this machine. */
import { createHash } from 'node:crypto'
import type { Socket } from 'node:net'

/** A session as its server keeps it. The digest covers its whole history, so that no two histories look alike. */
export interface SessionState {
  /** Requests applied so far. */
  readonly n: number
  readonly digest: string
  /** The node that applied the newest of them. */
  readonly by: string
  /** What the newest of them said. */
  readonly text: string
}

export type Request =
  | {
      readonly kind: 'apply'
      readonly id: number
      readonly session: string
      readonly n: number
      readonly text: string
      /** The session may be made by this request, if it is the first. */
      readonly open: boolean
    }
  | { readonly kind: 'show'; readonly id: number; readonly session: string }

export type Reply =
  | { readonly kind: 'ok'; readonly state: SessionState }
  /** The request is not the next one after the `n` that the server has. */
  | { readonly kind: 'refused'; readonly n: number }
  | { readonly kind: 'unknown' }
  /** Another node serves this server's sessions now. */
  | { readonly kind: 'fenced' }
  /** The session is there, and cannot be used; the error's code. */
  | { readonly kind: 'broken'; readonly code: string }

export type Answer = Reply & { readonly id: number }

export function digestOf(previous: string, n: number, text: string, by: string): string {
  return createHash('sha256').update(`${previous}\n${n}\n${text}\n${by}`).digest('hex').slice(0, 16)
}

/** The state after one more request, applied by node `by`. */
export function applied(state: SessionState | undefined, text: string, by: string): SessionState {
  const n = (state?.n ?? 0) + 1
  return { n, digest: digestOf(state?.digest ?? '', n, text, by), by, text }
}

export function isSessionState(value: unknown): value is SessionState {
  const { n, digest, by, text } = (value ?? {}) as Record<string, unknown>
  return Number.isSafeInteger(n) && typeof digest === 'string' && typeof by === 'string' && typeof text === 'string'
}

/** Calls `onLine` for each line that comes in, in batches as they come. */
export function readLines(socket: Socket, onLine: (line: string) => void): void {
  let rest = ''
  socket.setEncoding('utf8')
  socket.on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) onLine(line)
  })
}
