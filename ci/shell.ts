/** `rig shell`: a guest to play in. */

import type { Machines } from './machines.js'

/** Boots `count` guests and joins the terminal to a login shell in the first; returns the shell's exit code. */
export async function playInGuest(machines: Machines, count: number): Promise<number> {
  const names = Array.from({ length: count }, (_, index) => `guest${index + 1}`)
  const [guest] = await machines.boot(names, { memoryMiB: 768 })
  if (guest === undefined) return 0
  const { stdin, stdout, stderr } = process
  // `script` gives the shell a terminal of its own; without one here, plain pipes are what the caller wants.
  const setTerminal = `stty rows ${stdout.rows} cols ${stdout.columns}; exec bash`
  const argv = stdin.isTTY ? ['script', '-qec', setTerminal, '/dev/null'] : ['bash']
  const shell = await guest.spawn(argv, { env: { TERM: process.env['TERM'] ?? 'linux' } })
  shell.on('output', (bytes, stream) => {
    (stream === 'stdout' ? stdout : stderr).write(bytes)
  })
  if (stdin.isTTY) stdin.setRawMode(true)
  stdin.on('data', (bytes: Buffer) => {
    shell.write(bytes)
  })
  stdin.on('end', () => {
    shell.endInput()
  })
  try {
    return (await shell.closed).code ?? 1
  } finally {
    if (stdin.isTTY) stdin.setRawMode(false)
    stdin.destroy()
  }
}
