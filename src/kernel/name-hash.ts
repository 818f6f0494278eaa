/** Hashes of names, FNV-1a of 32 bits: names that are looked for among very many are found by them, in a row of numbers. */
export const hashStart = 0x811c_9dc5
export const hashByte = (hash: number, byte: number): number => Math.imul(hash ^ byte, 0x0100_0193)

export function hashOfName(name: string): number {
  let hash = hashStart
  for (let i = 0; i < name.length; i++) hash = hashByte(hash, name.charCodeAt(i))
  return hash
}
