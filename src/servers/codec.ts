import { Packr } from 'msgpackr'

/** Turns a session's value into bytes and back. `decode` may be given any bytes, and throws on those that are not its own. */
export interface Codec<T> {
  encode(value: T): Uint8Array
  decode(bytes: Uint8Array): T
}

/** The value is bytes already. `decode` copies, because the bytes in the region change at the next commit but one. */
export const bytesCodec: Codec<Uint8Array> = {
  encode: (value) => value,
  decode: (bytes) => bytes.slice(),
}

/** MessagePack, by msgpackr: objects, arrays, maps, dates, typed arrays; no functions and no cycles. Bytes are copied, for the reason above. */
export function messagePackCodec<T>(): Codec<T> {
  const packr = new Packr({ useRecords: false, moreTypes: true, copyBuffers: true })
  return {
    encode: (value) => packr.pack(value),
    decode: (bytes) => packr.unpack(bytes) as T,
  }
}
