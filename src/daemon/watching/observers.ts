/** Asks other nodes what they see of a peer, over the control connections that stand; and answers when they ask. */
import { z } from 'zod'
import { BackdoorsError } from '../../errors.js'
import type { RequestHandler } from '../../fabric/enrollment/requests.js'
import { isNodeName } from '../../keys/node-name.js'
import { sights, type Opinion, type SecondOpinion, type Sight } from '../../monitor/second-opinion.js'
import { nodeVerdicts, type NodeVerdictKind } from '../../monitor/verdict.js'
import { systemTime, type DaemonTime } from '../daemon-time.js'

/** Asks what a node sees of another (`docs/protocol.md`). */
export const observeMethod = 'observe'

const observeRequest = z.strictObject({ node: z.string().max(63).refine(isNodeName, 'is no node name') })
const observeAnswer = z.strictObject({ sees: z.enum(sights), verdict: z.enum(nodeVerdicts).exactOptional() })
export type ObserveAnswer = z.output<typeof observeAnswer>

/** A connection to an authenticated peer. */
export interface ObserverChannel {
  /** @throws BackdoorsError */
  request(method: string, body: unknown, timeoutMs: number): Promise<unknown>
}

/** A read is waited for no longer, whatever the patience with a peer is otherwise. In milliseconds. */
const longestLookMs = 5000
/** For the way there and back. */
const onTheWayMs = 500

/** How long the read may take by which this node answers; and how long the answers of others, who are configured alike. */
export const lookWithinMs = (unreachableAfterMs: number): number => Math.min(unreachableAfterMs, longestLookMs)
export const opinionTimeoutMs = (unreachableAfterMs: number): number => lookWithinMs(unreachableAfterMs) + onTheWayMs

/** Most nodes that are asked: more would not make it truer. */
const maxAsked = 16

export class Observers implements SecondOpinion {
  readonly #channels: () => ReadonlyMap<string, ObserverChannel>
  readonly #timeoutMs: number

  /** @param channels the connections that stand, by the peer's name @param timeoutMs how long an answer may take */
  constructor(channels: () => ReadonlyMap<string, ObserverChannel>, timeoutMs: number) {
    this.#channels = channels
    this.#timeoutMs = timeoutMs
  }

  async ask(peer: string): Promise<readonly Opinion[]> {
    const others = [...this.#channels()].filter(([name]) => name !== peer).slice(0, maxAsked)
    return await Promise.all(others.map(([by, channel]) => this.#askOne(peer, by, channel)))
  }

  async #askOne(peer: string, by: string, channel: ObserverChannel): Promise<Opinion> {
    try {
      const answer = observeAnswer.safeParse(await channel.request(observeMethod, { node: peer }, this.#timeoutMs))
      return { by, ...(answer.success ? answer.data : { sees: 'no-answer' }) }
    } catch {
      return { by, sees: 'no-answer' }
    }
  }
}

/** What is asked here of a peer that this node may be watching. */
export interface Observed {
  /** This node's own verdict. */
  readonly verdict: { readonly kind: NodeVerdictKind }
  /** Can its memory be read at this moment? Undefined where nothing is lent by it (yet). */
  look(): Promise<boolean> | undefined
}

/**
 * Answers what this node sees: never from memory, always by a read of its own that ends after the question came. Questions about
 * one node that come together share one read, so that no peer can have more than one under way by asking.
 * @param withinMs a read that takes longer has failed, as far as the one who asks is concerned
 */
export function observeHandler(find: (node: string) => Observed | undefined, withinMs: number, time: Pick<DaemonTime, 'later'> = systemTime): RequestHandler {
  const looks = new Map<string, Promise<boolean>>()
  const look = (node: string, observed: Observed): Promise<boolean> | undefined => {
    const known = looks.get(node) ?? observed.look()?.catch(() => false).finally(() => looks.delete(node))
    if (known) looks.set(node, known)
    return known
  }
  return async (body, { peer }): Promise<ObserveAnswer> => {
    const request = observeRequest.safeParse(body)
    if (!request.success) throw new BackdoorsError('INVALID_ARGUMENT', `${observeMethod} takes the name of a node`, { field: 'node', peer })
    const observed = find(request.data.node)
    const reading = observed && look(request.data.node, observed)
    if (!observed || !reading) return { sees: 'does-not-watch' }
    const isRead = await within(reading, withinMs, time)
    const { kind } = observed.verdict
    return { sees: sightOf(isRead, kind), verdict: kind }
  }
}

/** A read that fails says nothing by itself: the daemon may be gone, and the machine well. The verdict knows, once there is one. */
function sightOf(isRead: boolean, kind: NodeVerdictKind): Sight {
  if (isRead || kind === 'daemon-lost') return 'sees-alive'
  return kind === 'unreachable' || kind === 'link-cut' ? 'sees-unreachable' : 'undecided'
}

function within(reading: Promise<boolean>, ms: number, time: Pick<DaemonTime, 'later'>): Promise<boolean> {
  return new Promise((resolve) => {
    const cancel = time.later(ms, () => resolve(false))
    void reading.then((isRead) => {
      cancel()
      resolve(isRead)
    })
  })
}
