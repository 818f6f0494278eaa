/** Bytes that a range takes in a buffer: each starts at a multiple of 8, so that words keep their alignment. */
export const paddedLength = (length: number): number => Math.ceil(length / 8) * 8
