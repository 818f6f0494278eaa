/** Builds the command line's program and runs it. */
import { Command, CommanderError } from 'commander'
import type { Writable } from 'node:stream'
import { registerCommands } from './commands/index.js'
import { exitCodeMeanings, exitCodes, type ExitCode } from './exit-codes.js'
import { Output } from './output.js'
import { packageVersion } from './version.js'

export interface RunOptions {
  readonly stdout: Writable
  readonly stderr: Writable
  readonly env: Readonly<Record<string, string | undefined>>
}

const exitCodeHelp = ['', 'Exit codes:', ...exitCodeMeanings.map(([code, meaning]) => `  ${code}  ${meaning}`)].join('\n')

const about = `Detects failed servers and recovers their client sessions by reading the failed machine's memory.`

/**
 * Runs one command line.
 * @param argv without the program's own name
 * @returns what the process shall exit with
 */
export async function run(argv: readonly string[], { stdout, stderr, env }: RunOptions): Promise<ExitCode> {
  const output = new Output(stdout, stderr, Boolean(env['BACKDOORS_DEBUG']))
  const program = new Command('backdoors')
    .description(about)
    .version(packageVersion(), '--version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand('help [COMMAND]', 'print the help of a command')
    .configureOutput({
      writeOut: (text) => void stdout.write(text),
      writeErr: (text) => void stderr.write(text),
      outputError: (text, write) => write(text.replace(/^error: /, 'backdoors: ')),
    })
    .exitOverride()
    .addHelpText('after', `${exitCodeHelp}\n\nBACKDOORS_DEBUG=1 shows the stack of an error.`)
  await registerCommands(program, output, argv)
  // Each names itself in the hint, for its options are its own.
  for (const command of allCommands(program)) command.showHelpAfterError(`Try "${commandPath(command)} --help".`)
  try {
    await program.parseAsync([...argv], { from: 'user' })
  } catch (error) {
    if (error instanceof CommanderError) return usageExitCode(error, output, argv.includes('--json'))
    output.error(error, argv.includes('--json'))
  }
  return output.exitCode
}

/** Commander has printed its message already. */
function usageExitCode(error: CommanderError, output: Output, json: boolean): ExitCode {
  if (error.exitCode === 0) return exitCodes.ok
  if (json) output.json({ error: { code: 'INVALID_ARGUMENT', message: error.message.replace(/^error: /, '') } })
  return exitCodes.usage
}

function allCommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(allCommands)]
}

function commandPath(command: Command): string {
  return command.parent ? `${commandPath(command.parent)} ${command.name()}` : command.name()
}
