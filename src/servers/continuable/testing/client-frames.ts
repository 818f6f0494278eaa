/** Frames of a WebSocket's client, put together by hand, and those of a server taken apart. */

export const opcodes = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const

export const upgradeRequest = 'GET /chat HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'

/** @param isFinal false in a message's frames but the last one */
export function clientFrame(opcode: keyof typeof opcodes, payload: string | Buffer, isFinal = true): Buffer {
  const bytes = Buffer.from(payload as string)
  const mask = Buffer.from([0x11, 0x22, 0x33, 0x44])
  const short = bytes.length < 126 ? bytes.length : bytes.length < 65_536 ? 126 : 127
  const length = Buffer.alloc(short < 126 ? 0 : short === 126 ? 2 : 8)
  if (short === 126) length.writeUInt16BE(bytes.length)
  if (short === 127) length.writeBigUInt64BE(BigInt(bytes.length))
  const header = Buffer.from([(isFinal ? 0x80 : 0) | opcodes[opcode], 0x80 | short])
  return Buffer.concat([header, length, mask, bytes.map((byte, i) => byte ^ mask[i & 3]!)])
}

/** What came after the head of the 101 response: opcode and payload of each whole frame. */
export function serverFrames(output: Buffer): { opcode: number; text: string }[] {
  const head = output.indexOf('\r\n\r\n')
  const frames: { opcode: number; text: string }[] = []
  for (let at = head < 0 ? output.length : head + 4; at + 2 <= output.length;) {
    const short = output[at + 1]!
    const from = at + (short < 126 ? 2 : short === 126 ? 4 : 10)
    if (from > output.length) break
    const length = short < 126 ? short : short === 126 ? output.readUInt16BE(at + 2) : Number(output.readBigUInt64BE(at + 2))
    if (from + length > output.length) break
    frames.push({ opcode: output[at]! & 0x0f, text: output.toString('latin1', from, from + length) })
    at = from + length
  }
  return frames
}
