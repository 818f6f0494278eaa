/**
 * The front tier, a process of its own. Its first argument is a `FrontArguments` as JSON. Says `{"event":"listening","url":…}` on
 * stdout, at each failover which node's visits go to another now, and `counted` at a line `count`; ends with its standard input.
 */
import { createInterface } from 'node:readline'
import { sayer } from '../events.js'
import { FrontTier, type ApplicationNode } from './front-tier.js'

export interface FrontArguments {
  readonly nodes: readonly ApplicationNode[]
  readonly host: string
  /** 0 for any that is free. */
  readonly port: number
  /** See `FrontTierOptions`; in milliseconds. */
  readonly silenceMs?: number
  readonly patienceMs?: number
}

const say = sayer()

function main({ host, port, ...options }: FrontArguments): void {
  const front = new FrontTier({ ...options, onMoved: (visit, node) => say('moved', { from: visit.split('~')[0], node }) })
  front.server.once('error', (error) => {
    process.stderr.write(`${error.message}\n`)
    process.exit(1)
  })
  front.server.listen(port, host, () => {
    const address = front.server.address()
    say('listening', { url: `http://${host}:${typeof address === 'object' ? address?.port : port}` })
  })
  createInterface({ input: process.stdin }).on('line', (line) => line === 'count' && say('counted', { sentAgain: front.sentAgain })).once('close', () => process.exit(0))
}

main(JSON.parse(process.argv[2] ?? '{}') as FrontArguments)
