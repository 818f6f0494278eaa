/** Who watches whom, as one daemon can know it without asking anybody. Pure. */
import { watchedBy } from '../../monitor/watch-plan.js'

export interface PlannedNode {
  readonly node: string
  /** For the daemon itself whom it watches; for the others whom the common rule has them watch, from what is known here. */
  readonly watches: readonly string[]
  /** The peer that lends this machine's whole memory; it watches nobody itself. */
  readonly through?: string
}

/**
 * @param peers all others of the cluster
 * @param watched whom `node` watches
 * @param k how many nodes each node watches
 * @param isDown what `node` has seen of those that it watches: who is down watches nobody
 */
export function watchPicture(node: string, peers: readonly { readonly name: string; readonly through?: string | undefined }[], watched: readonly string[], k: number, isDown: (peer: string) => boolean): PlannedNode[] {
  const through = new Map(peers.flatMap(({ name, through: lender }) => (lender === undefined ? [] : [[name, lender] as const])))
  const names = [node, ...peers.map(({ name }) => name)].sort()
  const isNoWatcher = (name: string): boolean => through.has(name) || isDown(name)
  return names.map((name) => {
    const lender = through.get(name)
    const watches = name === node ? watched : isNoWatcher(name) ? [] : watchedBy(name, names, k, isNoWatcher)
    return { node: name, watches, ...(lender === undefined ? {} : { through: lender }) }
  })
}
