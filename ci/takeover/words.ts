/** What the clients and the servers of the scenario `tcp-takeover` say to each other, worked out by both by themselves. */
import { crc32 } from 'node:zlib'

/** Of a client, after so many of its words. */
export interface Tally {
  readonly count: number
  /** Over all words, in their order: a word that was lost, repeated or invented changes it for good. */
  readonly digest: number
}

export const noWords: Tally = { count: 0, digest: 0 }

export const withWord = ({ count, digest }: Tally, word: string): Tally => ({ count: count + 1, digest: crc32(word, digest) })

/** A body of a length that varies: a response may be cut anywhere. */
export function replyTo(client: string, { count, digest }: Tally): string {
  const line = `${client} ${count} ${digest}\n`
  return line + line.repeat(count % 40)
}

export const httpPort = 7490

/** An hour. */
export const audioSeconds = 3600
