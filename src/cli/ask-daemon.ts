/** Asks the daemon of this machine, through the unix socket beside its region. */
import { connect, type Socket } from 'node:net'
import { BackdoorsError, errorCodes, type ErrorCode } from '../errors.js'
import { fromDaemon, readMessages, socketPathOf, writeMessage, type FromDaemon } from '../servers/local-protocol.js'

const answerTimeoutMs = 10_000

/**
 * @param signal ends it: nobody wants the answer any more
 * @returns the daemon's answer
 * @throws BackdoorsError DAEMON_UNAVAILABLE where nobody listens or answers, and what the daemon itself answers
 */
export async function askDaemon(regionPath: string, method: string, params: Record<string, unknown> = {}, signal?: AbortSignal): Promise<unknown> {
  const path = socketPathOf(regionPath)
  const socket = connect(path)
  const end = (): void => void socket.destroy()
  signal?.addEventListener('abort', end, { once: true })
  try {
    return await exchange(socket, path, method, params)
  } finally {
    signal?.removeEventListener('abort', end)
    socket.destroy()
  }
}

function exchange(socket: Socket, path: string, method: string, params: Record<string, unknown>): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const unavailable = (why: string, cause?: unknown): void =>
      reject(new BackdoorsError('DAEMON_UNAVAILABLE', `No daemon answers at ${path}: ${why}. Is it running ("backdoors daemon"), and is this its region?`, { path, cause }))
    socket.setTimeout(answerTimeoutMs, () => unavailable(`no answer for ${answerTimeoutMs} ms`))
    socket.on('error', (error) => (error instanceof BackdoorsError ? reject(error) : unavailable(error.message, error)))
    socket.once('close', () => unavailable('it closed the connection'))
    readMessages(socket, fromDaemon, (message) => settle(message, resolve, reject), reject)
    writeMessage(socket, { type: 'request', id: 1, method, params })
  })
}

function settle(message: FromDaemon, resolve: (result: unknown) => void, reject: (error: Error) => void): void {
  if (message.type !== 'response') return
  const { error, result } = message
  if (error) reject(new BackdoorsError(isErrorCode(error.code) ? error.code : 'PROTOCOL_ERROR', error.message))
  else resolve(result)
}

const isErrorCode = (code: string): code is ErrorCode => (errorCodes as readonly string[]).includes(code)
