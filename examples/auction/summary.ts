/** The summary, for people. */
import type { Style } from '../../src/cli/demo/timeline.js'
import type { Judgement } from './judgement.js'

const times = (ms: number | null): string => (ms === null ? 'never' : `after ${ms} ms`)

export function summaryText(judgement: Judgement, style: Style): string {
  const { users, failures, interrupted, seed, seconds, direct, canary } = judgement
  const verb = judgement.failure === 'kill' ? 'was killed' : 'was frozen'
  const rows: [string, string][] = [
    ...failures.map(({ node, instant, detectMs, recoverMs, recoveredBy, visits }): [string, string] => [
      `node ${node}`, `${verb} ${instant === 'random' ? 'at a random instant' : 'between the two commits of a step'}; noticed ${times(detectMs)}, its ${visits} visits recovered ${times(recoverMs)}${recoveredBy ? ` by ${recoveredBy}` : ''}`,
    ]),
    ['steps', `${interrupted.finished} were interrupted and finished by another node, ${interrupted.wereInDatabase} of them were in the database already`],
    ['requests', `${judgement.askedAgain} were asked again by the front tier, ${users.sentAgain} sent again by clients; waits p50 ${users.waits.p50} ms, p99 ${users.waits.p99} ms, longest ${users.waits.longest} ms`],
    ['database', `${users.bids} bids, ${users.purchases} purchases and ${users.offers} offers, compared with what each user was told`],
    ['violations', `${users.lost} lost, ${users.twice} twice, ${users.invented} invented, ${users.broken} broken`],
    ['judged by', `${users.users} users, who checked ${users.pages} pages against their own ledgers`],
  ]
  const lines = [
    '',
    ...(canary ? [style('yellow', 'One safeguard was off (--canary): steps were done again although they had been done.')] : []),
    ...rows.map(([name, text]) => `  ${style('cyan', name.padEnd(13))} ${text}`),
    ...(judgement.ok ? [style('green', `OK: the story of each of ${users.users} users stayed true.`)] : judgement.faults.map((fault) => style('red', `FAILED: ${fault}`))),
    style('dim', `Again: npm run auction -- --users ${users.users} --seconds ${seconds} --failure ${judgement.failure} --seed ${seed}${direct ? ' --direct' : ''}${canary ? ' --canary' : ''}`),
  ]
  return `${lines.join('\n')}\n`
}
