/** What a stream is given to write. */
export interface Chunk {
  chunk: Buffer | string
  encoding: BufferEncoding
}

export type Callback = (error?: Error | null) => void

/** Bytes of buffers, characters of strings: as `writableLength` counts them. */
export function unitsOf(chunks: readonly Chunk[]): number {
  let units = 0
  for (const { chunk } of chunks) units += chunk.length
  return units
}

/** Bytes that they take at most: UTF-8 makes up to three of a character. */
export function mostBytes(chunks: readonly Chunk[]): number {
  let most = 0
  for (const { chunk, encoding } of chunks) most += typeof chunk !== 'string' || encoding === 'latin1' ? chunk.length : 3 * chunk.length
  return most
}

/** @returns how many bytes it took */
export function putChunk({ chunk, encoding }: Chunk, into: Buffer, at: number): number {
  if (typeof chunk === 'string') return chunk === '' ? 0 : into.write(chunk, at, encoding)
  into.set(chunk, at)
  return chunk.length
}
