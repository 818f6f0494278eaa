/** The Redis servers of the example: the module is compiled, and loaded by an unmodified redis-server. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Redis } from 'ioredis'

/** Of the repository: this file runs as TypeScript where it stands, and as JavaScript under dist. */
function root(): string {
  let folder = import.meta.dirname
  while (!existsSync(join(folder, 'addon', 'include', 'backdoors.h'))) {
    if (folder === dirname(folder)) throw new Error('addon/include/backdoors.h is not above this file')
    folder = dirname(folder)
  }
  return folder
}

/** @returns the path of the module */
export function compileModule(folder: string): string {
  const made = join(folder, 'backdoors-redis.so')
  const options = ['-std=c11', '-O2', '-Wall', '-Wextra', '-fPIC', '-shared', '-fvisibility=hidden', '-pthread']
  execFileSync('gcc', [...options, `-I${join(root(), 'addon', 'include')}`, '-o', made, join(root(), 'examples', 'redis', 'backdoors-redis.c')], { stdio: 'inherit' })
  return made
}

export interface RedisServer {
  readonly process: ChildProcess
  /** One connection. A server that is gone ends it: nothing is sent twice. */
  readonly client: Redis
  /** Another connection, closed with the server. */
  connect(): Redis
  /** What it has logged. */
  log(): string
  /** How it ended. */
  readonly gone: Promise<number | NodeJS.Signals | null>
  close(): Promise<void>
}

/** Starts a server that listens on a unix socket in `folder`. Resolves when it takes clients. */
export async function startRedis(folder: string, name: string, module: string, region: string, deadlineMs: number): Promise<RedisServer> {
  const socket = join(folder, `${name}.redis`)
  const arguments_ = ['--port', '0', '--unixsocket', socket, '--save', '', '--appendonly', 'no', '--dir', folder, '--loadmodule', module, region, 'redis', String(deadlineMs)]
  const child = spawn('redis-server', arguments_, { stdio: ['ignore', 'pipe', 'pipe'] })
  let log = ''
  let isReady = (): void => undefined
  const ready = new Promise<void>((resolve) => (isReady = resolve))
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      log += text
      if (/ready to accept connections/i.test(log)) isReady()
    })
  }
  const gone = new Promise<number | NodeJS.Signals | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve(signal ?? code))
  })
  await Promise.race([ready, gone.then(() => Promise.reject(new Error(`redis-server has ended:\n${log}`)))])
  const clients: Redis[] = []
  const connect = (): Redis => {
    // Without patience: what is not answered has failed.
    const client = new Redis(socket, { retryStrategy: () => null, maxRetriesPerRequest: 0 })
    clients.push(client.on('error', () => undefined))
    return client
  }
  return {
    process: child,
    client: connect(),
    connect,
    log: () => log,
    gone,
    close: async () => {
      for (const client of clients) client.disconnect()
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
      await gone
    },
  }
}
