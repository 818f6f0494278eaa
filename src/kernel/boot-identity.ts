/** Tells one boot of a machine from another. */
import { createHash } from 'node:crypto'
import type { KernelImage } from './kernel-image.js'
import { KernelObject, Selection } from './kernel-object.js'

/**
 * A digest of what a kernel draws at random when it starts (the idle task's stack canary) and of where it then lies. The same for
 * as long as the machine runs, and after it has died; 32 hexadecimal digits that tell nothing of what they were made from.
 * @throws BackdoorsError what reading throws
 */
export async function readBootIdentity(image: KernelImage): Promise<string> {
  const digest = createHash('sha256').update(image.note.text).update(String(image.notePhysical))
  const selection = new Selection(image.types, 'task_struct', [], ['stack_canary'])
  if (selection.has('stack_canary')) {
    const [task] = await image.readObjects(selection, [image.addressOf('init_task')])
    digest.update(task instanceof KernelObject ? task.bytes('stack_canary') : 'unreadable')
  }
  return digest.digest('hex').slice(0, 32)
}
