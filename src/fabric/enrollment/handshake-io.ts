/** Reading the one frame that each side waits for while a connection is being set up. */
import type { TLSSocket } from 'node:tls'
import { asBackdoorsError, BackdoorsError } from '../../errors.js'
import type { FrameDecoder } from './framing.js'

/**
 * The next frame's text. The socket is paused before and after, so that a peer that sends on is held back by
 * TCP and not by this process's memory.
 * @throws BackdoorsError MESSAGE_TOO_LARGE, PROTOCOL_ERROR; HANDSHAKE_REFUSED if the stream ends first; the
 *   signal's reason once it is aborted.
 */
export async function receiveFrame(socket: TLSSocket, decoder: FrameDecoder, signal: AbortSignal): Promise<Buffer> {
  signal.throwIfAborted()
  if (socket.destroyed) throw endedEarly(socket.errored ?? undefined)
  return await new Promise<Buffer>((resolve, reject) => {
    const settle = (outcome: () => void): void => {
      socket.off('data', onData).off('end', onEnd).off('close', onEnd).off('error', onError)
      signal.removeEventListener('abort', onAbort)
      socket.pause()
      outcome()
    }
    const onData = (piece: Buffer): void => {
      decoder.push(piece)
      try {
        const frame = decoder.next()
        if (frame !== undefined) settle(() => resolve(frame))
      } catch (error) {
        settle(() => reject(asBackdoorsError(error, 'PROTOCOL_ERROR', 'a frame')))
      }
    }
    const onError = (cause: Error): void => settle(() => reject(endedEarly(cause)))
    const onEnd = (): void => settle(() => reject(endedEarly()))
    const onAbort = (): void => settle(() => reject(signal.reason as Error))
    signal.addEventListener('abort', onAbort)
    socket.on('data', onData).on('end', onEnd).on('close', onEnd).on('error', onError)
    socket.resume()
  })
}

function endedEarly(cause?: Error): BackdoorsError {
  return new BackdoorsError('HANDSHAKE_REFUSED', `the connection was ended before the handshake was over${cause === undefined ? '' : `: ${cause.message}`}`, { cause })
}

/** `work`, or the signal's reason if that comes first; what `work` still does then is its own affair. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted()
  let onAbort!: () => void
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason as Error)
    signal.addEventListener('abort', onAbort)
  })
  try {
    return await Promise.race([work, aborted])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
