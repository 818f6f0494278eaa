/** What a session's state looks like: bytes that only this value of this session has, so that mixed and invented ones are told. */

const hashOf = (id: string): number => {
  let hash = 0x811c9dc5
  for (let at = 0; at < id.length; at++) hash = Math.imul(hash ^ id.charCodeAt(at), 0x01000193) >>> 0
  return hash
}

/** 40 to 400 bytes: versions differ in length, so that slots are given back and others taken. */
const wordsOf = (value: number): number => 10 + ((value * 37) % 91)

function fill(words: Uint32Array, hash: number, value: number): void {
  words[0] = value
  for (let at = 1; at < words.length; at++) words[at] = Math.imul(hash + at, 0x9e3779b1) ^ value
}

export function payloadOf(id: string, value: number): Uint8Array {
  const words = new Uint32Array(wordsOf(value))
  fill(words, hashOf(id), value)
  return new Uint8Array(words.buffer)
}

/** The value that a payload stands for, or undefined where no commit ever wrote these bytes. */
export function valueOf(id: string, payload: Uint8Array): number | undefined {
  if (payload.length < 4) return undefined
  const value = new DataView(payload.buffer, payload.byteOffset).getUint32(0, true)
  return Buffer.compare(payloadOf(id, value), payload) === 0 ? value : undefined
}
