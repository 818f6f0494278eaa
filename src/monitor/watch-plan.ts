/**
 * Who watches whom: the nodes stand in a ring, in the order of their names, and each watches the next `k`. So every node is watched
 * by `k` others, and every node works that out by itself from the same list.
 *
 * The plan heals by itself, without a leader: a node that is down watches nobody, and needs a watcher only to be seen coming back.
 * Who watches it goes on along the ring until `k` nodes that are up are watched, so that each of those has `k` watchers that are up.
 *
 * @param nodes names of the cluster's nodes; order and repetition do not matter
 * @param isDown what `node` itself has seen of those that it watches; all others count as up
 * @returns the names that `node` watches, in the ring's order, those between them that are down included
 */
export function watchedBy(node: string, nodes: readonly string[], k: number, isDown: (other: string) => boolean = () => false): string[] {
  const ring = [...new Set(nodes)].sort()
  const start = ring.indexOf(node)
  if (start < 0) return []
  const watched: string[] = []
  for (let step = 1, up = 0; step < ring.length && up < k; step++) {
    const other = ring[(start + step) % ring.length] as string
    watched.push(other)
    if (!isDown(other)) up++
  }
  return watched
}
