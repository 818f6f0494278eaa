/** The summary, for people. */
import type { Judgement } from './summary.js'
import type { Style } from './timeline.js'

const canaryWords = { fence: 'a fenced server goes on', crc: 'bytes are believed without their CRC', claim: 'recoverers do not heed the claim' } as const
const times = (ms: number | null): string => (ms === null ? 'never' : `after ${ms} ms`)

export function summaryText(judgement: Judgement, style: Style): string {
  const { failure, canary, failedNode, failedSessions, sessions, halfWritten, woken } = judgement
  const rows: [string, string][] = [
    ['detected', `${times(judgement.detectMs)}${judgement.detectedBy ? ` by ${judgement.detectedBy}: ${judgement.verdict}` : ''}`],
    ['recovered', `${times(judgement.recoverMs)}${judgement.recoveredBy ? ` by ${judgement.recoveredBy}` : ''}: ${judgement.recovered} of ${failedSessions} sessions`],
    ['clients', `the first was served again ${times(judgement.firstClientMs)}, the last ${times(judgement.lastClientMs)}; none waited longer than ${judgement.longestWaitMs} ms`],
    ['half-written', `${halfWritten.planted} commits cut short in the failed node's memory, ${halfWritten.discarded} discarded for the state before`],
    ...(woken ? [['woken', `node ${failedNode} refused ${woken.refused} requests that were on their way to it, acknowledged ${woken.acknowledged}`] as [string, string]] : []),
    ['violations', `${judgement.lost} sessions lost, ${judgement.servedTwice} served twice, ${judgement.invented} invented`],
    ['judged by', `the clients' own ledgers: ${judgement.requests} acknowledged requests of ${sessions} sessions`],
  ]
  const lines = [
    '',
    style('bold', `Node ${failedNode} ${failure === 'kill' ? 'was killed' : 'was frozen, and woken later,'} while it served ${failedSessions} of ${sessions} sessions.`),
    ...(canary ? [style('yellow', `One safeguard was off (--canary ${canary}): ${canaryWords[canary]}.`)] : []),
    ...rows.map(([name, text]) => `  ${style('cyan', name.padEnd(13))} ${text}`),
    ...(judgement.ok ? [style('green', 'OK: nothing was lost, served twice or invented.')] : judgement.faults.map((fault) => style('red', `FAILED: ${fault}`))),
    style('dim', `Again: backdoors demo --failure ${failure} --nodes ${judgement.nodes} --sessions ${sessions} --seed ${judgement.seed}${canary ? ` --canary ${canary}` : ''}`),
  ]
  return `${lines.join('\n')}\n`
}
