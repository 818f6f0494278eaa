/** The errors of the header, by their numbers. */
import { headerText } from './c-program.js'

export const errorNumbers: ReadonlyMap<string, number> = new Map([...headerText().matchAll(/^ {2}BACKDOORS_([A-Z_]+) = (-?\d+)/gm)].map(([, name, number]) => [name as string, Number(number)]))

export function numberOf(code: string): number {
  const number = errorNumbers.get(code)
  if (number === undefined) throw new Error(`backdoors.h has no error ${code}`)
  return number
}
