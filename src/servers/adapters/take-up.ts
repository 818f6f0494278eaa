/** Taking up the records of a store: those that are there, and from then on those that come over from failed servers. */
import { BackdoorsError, isBackdoorsError } from '../../errors.js'
import type { Adopted, SessionStore } from '../session-store.js'

export interface TakeUp<T> {
  /** One record. What it throws, or rejects with, leaves out that one alone. */
  readonly take: (record: T, id: string) => void | Promise<void>
  /** After each lot of them. */
  readonly taken?: () => void
  /** Is told how many of a lot were left out, and why the first of them was. They stay in their store. */
  readonly onError: (error: BackdoorsError) => void
}

/**
 * Resolves when all that is there is taken up. A record was in another server's memory and may be anything, so none of them
 * ends the process or keeps its neighbours from being taken up.
 * @returns what ends it
 */
export async function takeUp<T>(store: SessionStore<T>, { take, taken, onError }: TakeUp<T>): Promise<() => void> {
  const takeAll = async (ids: readonly string[]): Promise<void> => {
    const refused: { readonly id: string; readonly cause: unknown }[] = []
    for (const id of ids) {
      try {
        const record = store.get(id)
        const taking = record === undefined ? undefined : take(record, id)
        if (taking !== undefined) await taking
      } catch (cause) {
        refused.push({ id, cause })
      }
    }
    taken?.()
    const [first] = refused
    if (first !== undefined) onError(refusal(store.name, refused.length, ids.length, first.id, first.cause))
  }
  const onAdopted = ({ ids }: Adopted): void => void takeAll(ids)
  store.on('adopted', onAdopted)
  await takeAll([...store.ids()])
  return () => store.off('adopted', onAdopted)
}

function refusal(store: string, count: number, all: number, sessionId: string, cause: unknown): BackdoorsError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  const code = isBackdoorsError(cause) ? cause.code : 'PAYLOAD_INVALID'
  return new BackdoorsError(code, `${count} of ${all} records of store ${store} were left out; of the first, ${sessionId}: ${reason}`, { store, sessionId, cause })
}
