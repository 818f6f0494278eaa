import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { startDaemon, type Daemon } from '../../daemon/daemon.js'
import type { DaemonStatus } from '../../daemon/status.js'
import { BackdoorsError } from '../../errors.js'
import { jsonOf, runCli } from '../testing/run-cli.js'
import { drawUntilQuit } from './top.js'

let folder: string
let daemons: Daemon[]
const region = (node: string): string => join(folder, node)

beforeAll(async () => {
  folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'backdoors-top-'))
  daemons = await Promise.all([['a', 'b'], ['b', 'a']].map(([node, peer]) => startDaemon({
    node: node as string, log: 'silent', region: { path: region(node as string), boxes: 4, sessionsPerBox: 16, heapBytes: 65_536 },
    peers: [{ name: peer as string, region: region(peer as string) }], watch: { osDeadlineMs: 5000 },
  })))
  await vi.waitFor(() => expect(daemons[0]?.status().peers[0]?.osSensor).toBeDefined(), 10_000)
})

afterAll(async () => {
  await Promise.all(daemons.map((daemon) => daemon.close()))
  rmSync(folder, { recursive: true })
})

describe('top --once', () => {
  it('prints one frame, in which the sensors have moved', async () => {
    const { exitCode, stdout } = await runCli(['top', '--once', '--region', region('a')])
    expect(exitCode).toBe(0)
    expect(stdout).toMatch(/^node a of cluster default, over shm\npeers alive 1 of 1/)
    expect(stdout).toMatch(/✓ b +alive +rtt p50 [\d.]+ \S+, p99 [\d.]+ \S+ · \d+ rounds, 0 failed/)
    expect(stdout).toMatch(/machine os +█ moves/)
    expect(stdout).not.toContain('\x1b')
  })

  it('as JSON is the daemon\'s own account, incidents and history within it', async () => {
    expect(jsonOf(await runCli(['top', '--once', '--json', '--region', region('a')]))).toMatchObject({
      node: 'a', peers: [{ peer: 'b', osSensor: { name: 'os' } }], incidents: [], history: [], plan: [{ node: 'a', watches: ['b'] }, { node: 'b', watches: ['a'] }],
    })
  })

  it('refuses an interval that is none: exit code 2', async () => {
    expect(await runCli(['top', '--interval', '1', '--region', region('a')])).toMatchObject({ exitCode: 2, stdout: '' })
  })

  it('without a daemon ends with 3', async () => {
    expect(await runCli(['top', '--once', '--region', region('nobody')])).toMatchObject({ exitCode: 3, stderr: expect.stringContaining('(DAEMON_UNAVAILABLE)') as string })
  })
})

/** Both streams of a terminal, played. */
class Terminal {
  readonly output = Object.assign(new PassThrough(), { isTTY: true, columns: 70, rows: 12 })
  readonly input = Object.assign(new PassThrough(), { isTTY: true, raw: [] as boolean[], setRawMode: (raw: boolean): void => void this.input.raw.push(raw) })
  text = ''
  #onText: () => void = () => undefined

  constructor() {
    this.output.on('data', (chunk: Buffer) => {
      this.text += chunk.toString()
      this.#onText()
    })
  }

  async until(isTrue: (text: string) => boolean): Promise<void> {
    while (!isTrue(this.text)) await new Promise<void>((resolve) => (this.#onText = resolve))
  }
}

const hour = 3_600_000

describe('top on a terminal', () => {
  const status = (): DaemonStatus => daemons[0]?.status() as DaemonStatus

  it('draws in place on a screen of its own, at once when the size changes, and gives the terminal back on q', async () => {
    const terminal = new Terminal()
    const done = drawUntilQuit(async () => status(), hour, terminal.output, terminal.input)
    await terminal.until((text) => text.includes('q quits'))
    expect(terminal.text.startsWith('\x1b[?1049h\x1b[?25l\x1b[?7l')).toBe(true)
    expect(terminal.text).toContain('\x1b[H\x1b[1mnode a')
    // What is overwritten is not cleared before: that would flicker.
    expect(terminal.text).not.toContain('\x1b[2J')
    terminal.text = ''
    Object.assign(terminal.output, { columns: 20, rows: 3 })
    terminal.output.emit('resize')
    await terminal.until((text) => text.includes('q quits'))
    expect(terminal.text.split('\r\n')).toHaveLength(3)
    terminal.input.write('xq')
    await done
    expect(terminal.text.endsWith('\x1b[?7h\x1b[?25h\x1b[?1049l')).toBe(true)
    expect(terminal.input.raw).toEqual([true, false])
    expect(terminal.output.listenerCount('resize')).toBe(0)
  })

  it('goes on while the daemon is away, and says so', async () => {
    const terminal = new Terminal()
    let isThere = true
    const ask = async (): Promise<DaemonStatus> => {
      if (isThere) return status()
      throw new BackdoorsError('DAEMON_UNAVAILABLE', 'nobody is there')
    }
    const done = drawUntilQuit(ask, 50, terminal.output, terminal.input)
    await terminal.until((text) => text.includes('q quits'))
    isThere = false
    await terminal.until((text) => text.includes('does not answer'))
    isThere = true
    terminal.text = ''
    await terminal.until((text) => /mq quits/.test(text))
    terminal.input.write('\x03')
    await done
  })

  it('gives the terminal back on another error, and on a signal', async () => {
    const failing = new Terminal()
    let asked = 0
    const ask = async (): Promise<DaemonStatus> => {
      if (asked++ === 0) return status()
      throw new BackdoorsError('PROTOCOL_ERROR', 'nonsense')
    }
    await expect(drawUntilQuit(ask, 50, failing.output, failing.input)).rejects.toMatchObject({ code: 'PROTOCOL_ERROR' })
    expect(failing.text.endsWith('\x1b[?1049l')).toBe(true)
    const terminal = new Terminal()
    const done = drawUntilQuit(async () => status(), hour, terminal.output, terminal.input)
    await terminal.until((text) => text.includes('q quits'))
    process.emit('SIGTERM')
    await done
    expect(terminal.text.endsWith('\x1b[?1049l')).toBe(true)
    expect(process.listenerCount('SIGTERM')).toBe(0)
  })
})
