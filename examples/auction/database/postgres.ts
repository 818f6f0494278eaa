/** A PostgreSQL of the example's own, in a folder of its own: Debian's programs, started as an ordinary user. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, chownSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'

const installed = '/usr/lib/postgresql'
const port = 5432
const startLimitMs = 60_000
const keptLogBytes = 4000

export interface PostgresOptions {
  /** Address to listen on, beside the unix socket. Default: none. Whoever comes by it needs the password. */
  readonly host?: string
}

/** The user whom PostgreSQL runs as: it refuses to be root. */
interface Owner {
  readonly uid: number
  readonly gid: number
}

export class Postgres {
  /** For `pg`, on this machine: by the unix socket, whose folder only the owner and root may enter. */
  readonly url: string
  /** The same by the network, with the password; undefined without a `host`. */
  readonly networkUrl: string | undefined
  readonly #folder: string
  readonly #server: ChildProcess

  private constructor(folder: string, server: ChildProcess, networkUrl: string | undefined) {
    this.#folder = folder
    this.#server = server
    this.url = `postgresql:///postgres?user=postgres&host=${encodeURIComponent(folder)}&port=${port}`
    this.networkUrl = networkUrl
  }

  /** @throws Error where PostgreSQL is not installed or does not start */
  static async start({ host }: PostgresOptions = {}): Promise<Postgres> {
    const programs = findPrograms()
    const owner = findOwner()
    const folder = mkdtempSync(join(tmpdir(), 'auction-postgres-'))
    try {
      chmodSync(folder, 0o700)
      const password = randomBytes(18).toString('hex')
      const passwordFile = join(folder, 'password')
      writeFileSync(passwordFile, password, { mode: 0o600 })
      if (owner) for (const path of [folder, passwordFile]) chownSync(path, owner.uid, owner.gid)
      const data = join(folder, 'data')
      const made = spawnSync(join(programs, 'initdb'), ['-D', data, '-U', 'postgres', '--pwfile', passwordFile, '--auth-local=trust', '--auth-host=scram-sha-256', '-E', 'UTF8', '--locale=C.UTF-8'], { ...owner, cwd: folder, encoding: 'utf8' })
      if (made.status !== 0) throw new Error(`initdb failed: ${made.error?.message ?? made.stderr}`)
      rmSync(passwordFile)
      if (host !== undefined) writeFileSync(join(data, 'pg_hba.conf'), 'local all all trust\nhost all all all scram-sha-256\n')
      const settings = ['-k', folder, '-p', String(port), '-c', `listen_addresses=${host ?? ''}`, '-c', 'max_connections=60']
      const server = spawn(join(programs, 'postgres'), ['-D', data, ...settings], { ...owner, cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] })
      const postgres = new Postgres(folder, server, host === undefined ? undefined : `postgresql://postgres:${password}@${host}:${port}/postgres`)
      await postgres.#answers()
      return postgres
    } catch (error) {
      rmSync(folder, { recursive: true, force: true })
      throw error
    }
  }

  /** Ends it at once ("fast"), and removes its folder. Idempotent. */
  async close(): Promise<void> {
    if (this.#server.exitCode === null && this.#server.signalCode === null) {
      const ended = new Promise((resolve) => this.#server.once('exit', resolve))
      this.#server.kill('SIGINT')
      await ended
    }
    this.#remove()
  }

  /** The same without waiting ("immediate"), for a process that is about to end. */
  closeNow(): void {
    this.#server.kill('SIGQUIT')
    this.#remove()
  }

  #remove(): void {
    rmSync(this.#folder, { recursive: true, force: true })
  }

  async #answers(): Promise<void> {
    let log = ''
    this.#server.stderr?.setEncoding('utf8').on('data', (text: string) => {
      log = (log + text).slice(-keptLogBytes)
    })
    const deadlineMs = performance.now() + startLimitMs
    for (;;) {
      if (this.#server.exitCode !== null) throw new Error(`postgres ended with ${this.#server.exitCode}: ${log}`)
      const client = new pg.Client({ connectionString: this.url })
      try {
        await client.connect()
        return
      } catch (error) {
        if (performance.now() > deadlineMs) throw new Error(`postgres does not answer within ${startLimitMs / 1000} s: ${log}`, { cause: error })
      } finally {
        await client.end().catch(() => undefined)
      }
      await sleep(50)
    }
  }
}

/** The newest of Debian's versions; another's folder of programs can be named in POSTGRES. */
function findPrograms(): string {
  const named = process.env['POSTGRES']
  if (named !== undefined) return named
  const versions = existsSync(installed) ? readdirSync(installed).sort((a, b) => Number(b) - Number(a)) : []
  const found = versions.map((version) => join(installed, version, 'bin')).find((folder) => existsSync(join(folder, 'initdb')))
  if (found === undefined) throw new Error(`There is no PostgreSQL in ${installed}: "apt-get install --no-install-recommends postgresql", or name the folder of its programs in POSTGRES.`)
  return found
}

/** Whoever runs this, unless that is root: then `postgres`, whom Debian's package makes. */
function findOwner(): Owner | undefined {
  if (process.getuid?.() !== 0) return undefined
  const line = readFileSync('/etc/passwd', 'utf8').split('\n').find((each) => each.startsWith('postgres:'))
  if (line === undefined) throw new Error('PostgreSQL refuses to run as root, and there is no user "postgres" to run it as.')
  const [, , uid, gid] = line.split(':').map(Number)
  return { uid: uid as number, gid: gid as number }
}
