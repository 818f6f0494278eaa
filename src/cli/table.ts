import Table from 'cli-table3'

/** A table for people, without colours, so that it reads the same in a file. Cells of missing values are empty. */
export function table(head: readonly string[], rows: readonly (readonly (string | number | undefined)[])[]): string {
  const drawn = new Table({ head: [...head], style: { head: [], border: [], compact: true } })
  for (const row of rows) drawn.push(row.map((cell) => (cell === undefined ? '' : String(cell))))
  return drawn.toString()
}
