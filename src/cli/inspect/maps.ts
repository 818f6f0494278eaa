/** `inspect NODE maps PID`: as `/proc/PID/maps` has them. */
import { BackdoorsError } from '../../errors.js'
import type { KernelImage } from '../../kernel/kernel-image.js'
import { formatMapping, readMaps, type Mapping } from '../../kernel/views/maps.js'
import { printable } from './text.js'
import { count, type Answer, type ViewOptions } from './view.js'

export async function inspectMaps(image: KernelImage, { pid }: ViewOptions): Promise<Answer> {
  if (pid === undefined) throw new BackdoorsError('INVALID_ARGUMENT', 'Mappings are of a process: give its PID.', { field: 'pid' })
  const { mappings, faults } = await readMaps(image, pid)
  const lines = (): string[] => mappings.map((mapping) => printable(formatMapping(mapping)))
  return { lines, fields: () => ({ pid, mappings: mappings.map(fieldsOf) }), faults, isEmpty: mappings.length === 0 && faults.length > 0 }
}

const fieldsOf = ({ inode, ...mapping }: Mapping): Record<string, unknown> => ({ ...mapping, inode: count(inode) })
