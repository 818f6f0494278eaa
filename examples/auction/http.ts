import type { IncomingMessage } from 'node:http'

const longestBodyBytes = 256 * 1024

/** A message's body; undefined where it is cut short or too long. */
export function readBody(message: IncomingMessage): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = []
    let bytes = 0
    message.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes > longestBodyBytes) resolve(undefined)
      else chunks.push(chunk)
    })
    message.once('end', () => resolve(message.complete ? Buffer.concat(chunks) : undefined))
    message.once('error', () => resolve(undefined))
    message.once('close', () => resolve(undefined))
  })
}
