/**
 * Who watches whom: the nodes stand in a ring, in the order of their names, and each watches the next `k`. So
 * every node is watched by `k` others, and every node works that out by itself from the same list.
 * @param nodes names of the cluster's nodes; order and repetition do not matter
 * @returns the names that `node` watches; fewer than `k` in a small cluster
 */
export function watchedBy(node: string, nodes: readonly string[], k: number): string[] {
  const ring = [...new Set(nodes)].sort()
  const start = ring.indexOf(node)
  if (start < 0) return []
  const count = Math.min(k, ring.length - 1)
  return Array.from({ length: count }, (_, step) => ring[(start + 1 + step) % ring.length] as string)
}
