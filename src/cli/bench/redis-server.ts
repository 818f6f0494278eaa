/** A Redis server that is started for a comparison, on TCP loopback, and does not keep what it is told on disk. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { asBackdoorsError, BackdoorsError } from '../../errors.js'
import { freePort } from '../../servers/free-port.js'

const startTimeoutMs = 10_000

export interface RedisServer {
  /** Its port on 127.0.0.1. */
  readonly port: number
}

/** @throws BackdoorsError INVALID_ARGUMENT where there is no `redis-server`, SYSTEM_CALL_FAILED, TIMEOUT; and what `run` throws */
export async function withRedisServer<T>(run: (server: RedisServer) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'backdoors-redis-'))
  const port = await freePort()
  const server = spawn('redis-server', ['--bind', '127.0.0.1', '--port', `${port}`, '--save', '', '--appendonly', 'no', '--dir', folder], { stdio: ['ignore', 'pipe', 'ignore'] })
  try {
    await untilReady(server)
    return await run({ port })
  } finally {
    await end(server)
    rmSync(folder, { recursive: true, force: true })
  }
}

async function untilReady(server: ChildProcess): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => reject(new BackdoorsError('TIMEOUT', `redis-server was not ready within ${startTimeoutMs} ms.`)), startTimeoutMs)
    const settle = (how: () => void): void => {
      clearTimeout(timer)
      how()
    }
    server.once('error', (error) => settle(() => reject(asBackdoorsError(error, 'INVALID_ARGUMENT', 'The comparison needs redis-server (Debian: apt-get install redis-server)'))))
    server.once('exit', (code) => settle(() => reject(new BackdoorsError('SYSTEM_CALL_FAILED', `redis-server ended with ${code}.`))))
    server.stdout?.on('data', (chunk: Buffer) => chunk.includes('eady to accept connections') && settle(resolve))
  })
}

async function end(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.pid === undefined) return
  const exited = once(server, 'exit')
  server.kill()
  await exited
}

/** For packages that only a comparison needs. @throws BackdoorsError INVALID_ARGUMENT with what to do */
export async function loadRival<T>(module: () => Promise<T>, name: string): Promise<T> {
  try {
    return await module()
  } catch (error) {
    throw asBackdoorsError(error, 'INVALID_ARGUMENT', `The comparison needs the package ${name} (npm install ${name})`)
  }
}
