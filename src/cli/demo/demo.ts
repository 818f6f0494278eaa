/** `backdoors demo`: a failure and its recovery on this one machine, with real processes, to look at and to trust. */
import { randomInt } from 'node:crypto'
import type { Command } from 'commander'
import { canaries } from '../../safeguards.js'
import { exitCodes } from '../exit-codes.js'
import { failures, parseFlags, type DemoFlags } from './options.js'

const help = `
Nodes are real processes on this machine, a daemon and a server each; they lend their memory to each other as files
under /dev/shm. Clients work on their sessions over TCP; then one node is killed, or frozen (and woken again when
others have its sessions: it must find itself fenced). A few commits are left half-written in its memory.

Whether all went well is judged by the clients alone, each by its ledger of every request that was acknowledged, and
by whom:
  lost         something that was acknowledged is not there any more
  servedTwice  two nodes served the session, each on its own
  invented     a state came back that the client's requests do not lead to
With --canary one safeguard is switched off, and the demo must fail: fence (a fenced server goes on; needs --failure
stop), crc (bytes are believed without their CRC), claim (two recover the same node).

With --json the timeline goes to stderr, and the last line of stdout is one object:
  ok              nothing lost, served twice or invented, and all sessions of the failed node recovered
  faults          why not
  recovered       sessions of the failed node that another node served on, of failedSessions
  halfWritten     commits planted half-written, and discarded for the last acknowledged state
  detectMs        from the failure to the first verdict of a watcher
  recoverMs       from the failure to the announcement that all its sessions are adopted
  firstClientMs, lastClientMs  from the failure until the first and the last of its clients was served again
  longestWaitMs   the longest that one of them waited for an answer
  woken           how many requests the frozen node refused and acknowledged once it was woken

Exit code 0 where ok, 1 where not.

Examples:
  backdoors demo
  backdoors demo --failure stop --sessions 1000 --seed 7 --json
  backdoors demo --canary crc`

export function registerDemo(program: Command): void {
  program
    .command('demo')
    .description('watch a node fail and its sessions be recovered, on this machine, without RDMA or root')
    .option('--failure <kind>', `${failures.join(' or ')} (default: kill)`)
    .option('--nodes <count>', 'how many nodes, 2 to 8', '3')
    .option('--sessions <count>', 'how many clients with a session each', '200')
    .option('--seed <number>', 'repeats the demo\'s own choices: which node, when, what (default: another each time)')
    .option('--json', 'the last line on stdout is one JSON object, the timeline goes to stderr')
    .option('--canary <safeguard>', `${canaries.join(', ')}: switches it off, and must make the demo fail`)
    .addHelpText('after', help)
    .action(async (flags: DemoFlags) => {
      const options = parseFlags(flags, () => randomInt(1, 1_000_000))
      const { runDemo } = await import('./run.js')
      const { summaryText } = await import('./report.js')
      const text = options.json ? process.stderr : process.stdout
      const { judgement, style } = await runDemo(options, { text, env: process.env })
      text.write(summaryText(judgement, style))
      if (options.json) process.stdout.write(`${JSON.stringify(judgement)}\n`)
      if (!judgement.ok) process.exitCode = exitCodes.failed
    })
}
