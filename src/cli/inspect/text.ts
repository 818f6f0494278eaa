/** Text out of a strange machine's memory, for a terminal. */

/**
 * Control characters, and those that only change how others are shown, as `\x1b` and `\u202e`: what a machine wrote into its log
 * or into a process's name must not drive the terminal of the one who reads it.
 */
export const printable = (text: string): string => text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => {
  const code = character.codePointAt(0) as number
  if (character === '\t') return character
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, '0')}`
  return code < 0x1_0000 ? `\\u${code.toString(16).padStart(4, '0')}` : `\\u{${code.toString(16)}}`
})

export interface Column {
  readonly title: string
  readonly isNumber?: true
}

export const number = (title: string): Column => ({ title, isNumber: true })
export const word = (title: string): Column => ({ title })

/** Columns without lines between them, as `ps` and `ss` print them. What is not known is a question mark. */
export function columns(head: readonly Column[], rows: readonly (readonly (string | number | undefined)[])[]): string[] {
  const cells = [head.map(({ title }) => title), ...rows.map((row) => row.map((cell) => (cell === undefined ? '?' : printable(String(cell)))))]
  const widths = head.map((_, i) => cells.reduce((most, row) => Math.max(most, row[i]?.length ?? 0), 0))
  return cells.map((row) => row.map((cell, i) => (head[i]?.isNumber ? cell.padStart(widths[i] as number) : cell.padEnd(widths[i] as number))).join(' ').trimEnd())
}
