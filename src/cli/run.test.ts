import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { exitCodeMeanings } from './exit-codes.js'
import { jsonOf, runCli } from './testing/run-cli.js'

const commands = [
  'demo', 'doctor', 'keys', 'keys init', 'keys issue', 'keys revoke', 'daemon', 'status', 'sessions', 'sensors', 'devices',
  'bench', 'bench read-latency', 'bench commit',
]
const rootFile = (name: string): string => readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8')

describe('--help', () => {
  it('lists every command and what the exit codes mean', async () => {
    const { exitCode, stdout, stderr } = await runCli('--help')
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' })
    for (const command of commands) if (!command.includes(' ')) expect(stdout).toMatch(new RegExp(`^  ${command} `, 'm'))
    for (const [code, meaning] of exitCodeMeanings) expect(stdout).toContain(`  ${code}  ${meaning}\n`)
  })

  it.each(commands)('of %s says what it is for, and gives an example', async (command) => {
    const { exitCode, stdout, stderr } = await runCli(`${command} --help`)
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' })
    expect(stdout).toContain(`Usage: backdoors ${command} `)
    expect(stdout).toMatch(new RegExp(`Examples?:\n  backdoors ${command}`))
    expect(await runCli(`help ${command}`.split(' ').slice(0, 2).join(' '))).toMatchObject({ exitCode: 0 })
  })

  it('is the same text in the README, as far as the exit codes go', () => {
    for (const [code, meaning] of exitCodeMeanings) expect(rootFile('README.md')).toContain(`| ${code} | ${meaning} |`)
  })
})

describe('--version', () => {
  it('is the package\'s', async () => {
    const { version } = JSON.parse(rootFile('package.json')) as { version: string }
    expect(await runCli('--version')).toEqual({ exitCode: 0, stdout: `${version}\n`, stderr: '' })
  })
})

describe('a command line that is wrong', () => {
  it.each([
    ['no such command', 'recover', /unknown command 'recover'/],
    ['no such option', 'doctor --jsno', /unknown option '--jsno'[^]*--json/],
    ['an option that is missing', 'daemon', /required option '--config <file>'/],
    ['an argument that is missing', 'sessions --region /x', /missing required argument 'node'/],
    ['an argument too many', 'doctor now', /too many arguments/],
    ['two options of which one excludes the other', 'status --region /x --config /y', /--region.* cannot be used with .*--config/],
    ['a number that is none', 'sessions b --region /x --limit many', /--limit/],
    ['a number out of its range', 'sessions b --region /x --limit 0', /--limit/],
    ['days that are none', 'keys issue a --folder /x --days soon', /--days/],
    ['a daemon that is not named', 'status', /--region PATH or --config FILE.*INVALID_ARGUMENT/],
  ])('%s ends with 2, and says so', async (_, argv, message) => {
    const { exitCode, stdout, stderr } = await runCli(argv)
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' })
    expect(stderr).toMatch(/^backdoors: /)
    expect(stderr).toMatch(message)
  })

  it.each(['', 'keys', 'bench'])('without a command ("%s") prints the help to stderr and ends with 2', async (argv) => {
    expect(await runCli(argv)).toMatchObject({ exitCode: 2, stdout: '', stderr: expect.stringContaining('Usage: backdoors') as string })
  })

  it('is an object on stdout too, where JSON was asked for', async () => {
    const result = await runCli('daemon --json')
    expect(result.exitCode).toBe(2)
    expect(jsonOf(result)).toEqual({ error: { code: 'INVALID_ARGUMENT', message: "required option '--config <file>' not specified" } })
  })
})

describe('an error', () => {
  it('is one line with its code, and without a stack', async () => {
    const { exitCode, stderr } = await runCli('status --region /nowhere/region')
    expect(exitCode).toBe(3)
    expect(stderr).toMatch(/^backdoors: No daemon answers at \/nowhere\/region\.sock: .*\(DAEMON_UNAVAILABLE\)\n$/)
  })

  it('comes with its stack and its cause where BACKDOORS_DEBUG is set', async () => {
    const { stderr } = await runCli('status --region /nowhere/region', { BACKDOORS_DEBUG: '1' })
    expect(stderr).toMatch(/\n {4}at .*ask-daemon/)
    expect(stderr).toMatch(/\ncaused by Error: connect ENOENT/)
  })

  it('is an object on stdout where JSON was asked for', async () => {
    const result = await runCli('status --region /nowhere/region --json')
    expect(jsonOf(result)).toMatchObject({ error: { code: 'DAEMON_UNAVAILABLE', path: '/nowhere/region.sock' } })
  })

  it('of the configuration names the file and the bad key', async () => {
    const { exitCode, stderr } = await runCli('daemon --config /nowhere/a.yaml')
    expect(exitCode).toBe(2)
    expect(stderr).toMatch(/\/nowhere\/a\.yaml.*\(CONFIG_INVALID\)/)
  })
})
