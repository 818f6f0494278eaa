/** What is to happen when, in virtual time: a binary heap, ordered by time and then by who came first. */

export interface QueuedEvent {
  readonly atUs: number
  readonly serial: number
  /** What it returns is `quiet`, or does not matter (see simulation.ts). */
  readonly action: () => unknown
  cancelled: boolean
}

const isBefore = (left: QueuedEvent, right: QueuedEvent): boolean =>
  left.atUs < right.atUs || (left.atUs === right.atUs && left.serial < right.serial)

export class EventQueue {
  readonly #heap: QueuedEvent[] = []
  #serial = 0

  push(atUs: number, action: () => unknown): QueuedEvent {
    const event: QueuedEvent = { atUs, serial: this.#serial, action, cancelled: false }
    this.#serial += 1
    this.#heap.push(event)
    this.#rise(this.#heap.length - 1)
    return event
  }

  /** The next event that was not cancelled, left in the queue. */
  peek(): QueuedEvent | undefined {
    while (this.#heap[0]?.cancelled === true) this.#removeFirst()
    return this.#heap[0]
  }

  pop(): QueuedEvent | undefined {
    const first = this.peek()
    if (first !== undefined) this.#removeFirst()
    return first
  }

  #removeFirst(): void {
    const last = this.#heap.pop()
    if (last === undefined || this.#heap.length === 0) return
    this.#heap[0] = last
    this.#sink()
  }

  #rise(from: number): void {
    const heap = this.#heap
    const event = heap[from] as QueuedEvent
    let at = from
    while (at > 0) {
      const parent = (at - 1) >> 1
      const above = heap[parent] as QueuedEvent
      if (isBefore(above, event)) break
      heap[at] = above
      at = parent
    }
    heap[at] = event
  }

  #sink(): void {
    const heap = this.#heap
    const event = heap[0] as QueuedEvent
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      const right = heap[child + 1]
      if (right !== undefined && isBefore(right, heap[child] as QueuedEvent)) child += 1
      const below = heap[child]
      if (below === undefined || isBefore(event, below)) break
      heap[at] = below
      at = child
    }
    heap[at] = event
  }
}
