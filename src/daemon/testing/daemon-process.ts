/** A daemon in a process of its own, so that a test can put it into a network namespace: its configuration is the argument, its events go to standard output, one a line. */
import { BackdoorsError } from '../../errors.js'
import type { DaemonConfigInput } from '../config.js'
import { startDaemon } from '../daemon.js'

const tell = (event: string, fields: object = {}): void => void process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`)
const failure = (error: unknown): object => ({ error: error instanceof BackdoorsError ? error : String(error) })

try {
  const daemon = await startDaemon(JSON.parse(process.argv[2] as string) as DaemonConfigInput)
  daemon.on('recovered', ({ peer, outcome, target }) => tell('recovered', { peer, outcome, target: target.kind }))
  daemon.on('failed', (peer, _, error) => tell('failed', { peer, ...failure(error) }))
  daemon.on('fenced', () => tell('fenced'))
  tell('started')
  const look = setInterval(() => {
    if ((daemon.status().peers[0]?.servers?.[0]?.sensors.length ?? 0) === 0) return
    clearInterval(look)
    tell('watching')
  }, 1)
} catch (error) {
  tell('refused', failure(error))
  process.exitCode = 1
}
