/** A multi-tier auction site, two of whose three application nodes fail while people bid: `npm run auction`. */
import { randomInt } from 'node:crypto'
import { Command } from 'commander'
import { exitCodeOf, exitCodes } from '../../src/cli/exit-codes.js'
import { parseFlags, type AuctionFlags } from './options.js'
import { runAuction } from './run.js'
import { summaryText } from './summary.js'

const help = `
Needs Debian's postgresql (apt-get install --no-install-recommends postgresql), and neither root nor RDMA.
With --keep: open the printed address in a browser, and log in as user-1 with the password auction.
Exit code 0 where every user's story stayed true and a step was interrupted and finished, 1 where not.`

const program = new Command('auction')
  .description('an auction site of three application nodes over PostgreSQL; two nodes fail while users are at work')
  .option('--users <count>', 'emulated users, each with a ledger of its own', '50')
  .option('--seconds <count>', 'how long they are at work', '20')
  .option('--failure <kind>', 'kill, or stop: nodes are frozen, and woken again later', 'kill')
  .option('--seed <number>', 'repeats the choices of users and failures (default: another each time)')
  .option('--direct', 'users speak to the application nodes, without the front tier')
  .option('--port <number>', 'of the front tier', '0')
  .option('--keep', 'serve on afterwards, to click around')
  .option('--json', 'the last line on stdout is one JSON object, the timeline goes to stderr')
  .option('--canary', "steps are done again although they have been done: the users must notice")
  .addHelpText('after', help)

try {
  const options = parseFlags(program.parse().opts<AuctionFlags>(), () => randomInt(1, 1_000_000))
  const text = options.json ? process.stderr : process.stdout
  const judgement = await runAuction(options, {
    text, env: process.env,
    onJudged: (judged, style) => {
      text.write(summaryText(judged, style))
      if (options.json) process.stdout.write(`${JSON.stringify(judged)}\n`)
    },
  })
  process.exitCode = judgement.ok ? exitCodes.ok : exitCodes.failed
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = exitCodeOf(error)
}
