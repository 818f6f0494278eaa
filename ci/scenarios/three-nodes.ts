/** Three guests that scenarios share: some their nodes as well, which those leave alive; others start nodes of their own there. */
import type { ScenarioContext } from '../scenario.js'
import { bootGuests, endNodes, startNodes, type ClusterGuests, type ClusterNode } from './cluster.js'

export const threeMachines = 'three nodes'

type Names = readonly ['a', 'b', 'c']
export type ThreeNodes = readonly [ClusterNode, ClusterNode, ClusterNode]

interface Three {
  readonly cluster: ClusterGuests<Names>
  /** Undefined where none run that are everybody's. */
  nodes: ThreeNodes | undefined
}

const three = (context: ScenarioContext): Promise<Three> => context.shared(threeMachines, async () => ({ cluster: await bootGuests(context, ['a', 'b', 'c']), nodes: undefined }))

/** The nodes a, b and c, as the scenario before left them, or new. */
export async function startThree(context: ScenarioContext): Promise<ThreeNodes> {
  const shared = await three(context)
  shared.nodes ??= await startNodes(context, shared.cluster)
  return shared.nodes
}

/** Ends them: for a scenario that has made something else of them. */
export async function endThree(context: ScenarioContext): Promise<void> {
  const shared = await three(context)
  if (shared.nodes) await endNodes(shared.nodes)
  shared.nodes = undefined
}

/** The guests, in which nothing runs, for nodes that their scenario ends itself. */
export async function threeGuests(context: ScenarioContext): Promise<ClusterGuests<Names>> {
  await endThree(context)
  return (await three(context)).cluster
}

/** The first two of them. */
export async function twoGuests(context: ScenarioContext): Promise<ClusterGuests<readonly ['a', 'b']>> {
  const { guests, keys } = await threeGuests(context)
  return { names: ['a', 'b'], guests: guests.slice(0, 2), keys }
}
