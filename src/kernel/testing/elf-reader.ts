/** Reads ELF cores for tests: simple, and trusting. */
export interface ReadSegment {
  readonly type: number
  readonly flags: number
  readonly offset: number
  readonly virtual: bigint
  readonly physical: bigint
  readonly fileBytes: number
  readonly memoryBytes: number
}

export interface ReadNote {
  readonly name: string
  readonly type: number
  readonly description: Buffer
}

export function readElf(file: Buffer): { type: number; machine: number; segments: ReadSegment[]; notes: ReadNote[] } {
  const at = Number(file.readBigUInt64LE(32))
  const short = file.readUInt16LE(56)
  const count = short === 0xffff ? file.readUInt32LE(Number(file.readBigUInt64LE(40)) + 44) : short
  const segments = Array.from({ length: count }, (_, i): ReadSegment => {
    const header = file.subarray(at + i * 56)
    return {
      type: header.readUInt32LE(0), flags: header.readUInt32LE(4), offset: Number(header.readBigUInt64LE(8)), virtual: header.readBigUInt64LE(16),
      physical: header.readBigUInt64LE(24), fileBytes: Number(header.readBigUInt64LE(32)), memoryBytes: Number(header.readBigUInt64LE(40)),
    }
  })
  const notes = segments.filter(({ type }) => type === 4).flatMap(({ offset, fileBytes }) => readNotes(file.subarray(offset, offset + fileBytes)))
  return { type: file.readUInt16LE(16), machine: file.readUInt16LE(18), segments: segments.filter(({ type }) => type === 1), notes }
}

function readNotes(bytes: Buffer): ReadNote[] {
  const notes: ReadNote[] = []
  const padded = (length: number): number => (length + 3) & ~3
  for (let at = 0; at < bytes.length;) {
    const [nameBytes, length, type] = [bytes.readUInt32LE(at), bytes.readUInt32LE(at + 4), bytes.readUInt32LE(at + 8)]
    const start = at + 12 + padded(nameBytes)
    notes.push({ name: bytes.toString('latin1', at + 12, at + 11 + nameBytes), type, description: bytes.subarray(start, start + length) })
    at = start + padded(length)
  }
  return notes
}
