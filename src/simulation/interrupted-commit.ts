/**
 * A commit that stops in the middle. In virtual time a commit is one instant, so it is carried out, what it wrote is taken back, and
 * put in again in two parts: as much as was written when the process stopped, and the rest when it goes on, if it does.
 */

/** From here on, eight bytes of a box that the commit changed. */
interface Change {
  readonly offset: number
  readonly bytes: Uint8Array
}

const unit = 8

/**
 * @param box the bytes of the whole box
 * @param heapInBox where its heap begins: a commit writes there first, and to the index before it last
 * @param share how much of it is written before it stops, from 0 to 1
 * @returns what writes the rest
 */
export function interruptCommit(box: Uint8Array, heapInBox: number, share: number, commit: () => void): () => void {
  const before = box.slice()
  commit()
  const changes: Change[] = []
  for (let offset = 0; offset < box.length; offset += unit) {
    const now = box.subarray(offset, offset + unit)
    if (Buffer.compare(now, before.subarray(offset, offset + unit)) !== 0) changes.push({ offset, bytes: now.slice() })
  }
  box.set(before)
  const inOrder = [...changes.filter(({ offset }) => offset >= heapInBox), ...changes.filter(({ offset }) => offset < heapInBox)]
  const written = Math.floor(inOrder.length * share)
  const write = ({ offset, bytes }: Change): void => box.set(bytes, offset)
  inOrder.slice(0, written).forEach(write)
  return () => inOrder.slice(written).forEach(write)
}
