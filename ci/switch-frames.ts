/** Cuts the byte stream of a QEMU `-netdev stream` socket into its length-prefixed Ethernet frames. */

import { RigError } from './errors.js'

/** The length before each frame: 4 bytes, big-endian. */
export const headerBytes = 4

/** Two MAC addresses and a type: nothing shorter can be forwarded. */
const shortestFrameBytes = 14
/** QEMU's own limit (NET_BUFSIZE in include/net/net.h). */
const longestFrameBytes = 4096 + 65536

/** A length that no Ethernet frame has: the stream is out of step for good, or hostile. */
export class FrameLengthError extends RigError {
  constructor(readonly lengthBytes: number) {
    super(`frame of ${lengthBytes} bytes; expected ${shortestFrameBytes} to ${longestFrameBytes}`)
  }
}

/** The frame's bytes with their length before them, as the switch reads and writes them. */
export function frameMessage(frame: Uint8Array): Buffer {
  const message = Buffer.alloc(headerBytes + frame.length)
  message.writeUInt32BE(frame.length)
  message.set(frame, headerBytes)
  return message
}

export class FrameParser {
  private rest: Buffer = Buffer.alloc(0)

  /**
   * The messages that `chunk` completes, each with its length still before it, so that it can be sent on as it is.
   * @throws FrameLengthError before anything of an impossible frame is stored.
   */
  push(chunk: Buffer): Buffer[] {
    const bytes = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk])
    const messages: Buffer[] = []
    let start = 0
    while (bytes.length - start >= headerBytes) {
      const lengthBytes = bytes.readUInt32BE(start)
      if (lengthBytes < shortestFrameBytes || lengthBytes > longestFrameBytes) throw new FrameLengthError(lengthBytes)
      const end = start + headerBytes + lengthBytes
      if (end > bytes.length) break
      messages.push(bytes.subarray(start, end))
      start = end
    }
    this.rest = bytes.subarray(start)
    return messages
  }
}
