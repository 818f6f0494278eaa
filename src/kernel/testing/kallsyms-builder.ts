/** Tables of symbols made by hand: each character is its own token, but for some that stand for more. */
import type { KernelSymbol, KallsymsTables } from '../kallsyms.js'

/** Tokens that characters of no name are free for. */
const packed: ReadonlyMap<number, string> = new Map([[1, 'init'], [2, 'task'], [3, '__']])

export function packSymbols(symbols: readonly KernelSymbol[], relativeBase: bigint): KallsymsTables {
  const texts = Array.from({ length: 256 }, (_, i) => packed.get(i) ?? String.fromCharCode(i === 0 ? 32 : i))
  const tokenIndex = new Uint8Array(512)
  const view = new DataView(tokenIndex.buffer)
  let at = 0
  for (const [i, text] of texts.entries()) {
    view.setUint16(i * 2, at, true)
    at += text.length + 1
  }
  const names = symbols.flatMap(({ type, name }) => {
    let text = type + name
    for (const [token, stands] of packed) text = text.replaceAll(stands, String.fromCharCode(token))
    const length = text.length < 0x80 ? [text.length] : [(text.length & 0x7f) | 0x80, text.length >> 7]
    return [...length, ...Buffer.from(text, 'latin1')]
  })
  const offsets = new Uint8Array(symbols.length * 4)
  const offsetView = new DataView(offsets.buffer)
  for (const [i, { address }] of symbols.entries()) offsetView.setInt32(i * 4, Number(address < 1n << 31n ? address : relativeBase - 1n - address), true)
  return { count: symbols.length, names: padded(names), tokenTable: padded([...Buffer.from(texts.join('\0') + '\0', 'latin1')]), tokenIndex, offsets, relativeBase }
}

/** As a reader has them: the tables end somewhere in what it has read. */
const padded = (bytes: readonly number[]): Uint8Array => Uint8Array.from([...bytes, ...Array<number>(4 - (bytes.length % 4)).fill(0)])
