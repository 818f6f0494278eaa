/** `inspect NODE log`: as `dmesg` prints it. */
import type { KernelImage } from '../../kernel/kernel-image.js'
import { linesOf, readLog, type LogEntry } from '../../kernel/views/log.js'
import { printable } from './text.js'
import { count, type Answer } from './view.js'

export async function inspectLog(image: KernelImage): Promise<Answer> {
  const { entries, unfinished, lost, faults } = await readLog(image)
  return { lines: () => entries.flatMap(linesOf).map(printable), fields: () => ({ entries: entries.map(fieldsOf), unfinished, lost }), faults, isEmpty: entries.length === 0 }
}

const fieldsOf = ({ sequence, timeNs, ...rest }: LogEntry): Record<string, unknown> => ({ sequence: count(sequence), timeNs: count(timeNs), ...rest })
