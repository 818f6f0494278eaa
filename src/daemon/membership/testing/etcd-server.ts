/** A real etcd on loopback, with a data directory of its own. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from '../../../servers/free-port.js'

export class EtcdServer {
  readonly endpoint: string
  readonly #folder = mkdtempSync(join(tmpdir(), 'backdoors-etcd-'))
  readonly #ports: readonly [client: number, peer: number]
  readonly #more: readonly string[]
  #child: ChildProcess | undefined

  /** @param tls options of the command line for certificates */
  static async start(tls: readonly string[] = []): Promise<EtcdServer> {
    const server = new EtcdServer([await freePort(), await freePort()], tls)
    await server.start()
    return server
  }

  private constructor(ports: readonly [number, number], tls: readonly string[]) {
    this.#ports = ports
    this.#more = tls
    this.endpoint = `${tls.length > 0 ? 'https' : 'http'}://127.0.0.1:${ports[0]}`
  }

  /** Starts it, again with the same data; resolves when it serves. */
  async start(): Promise<void> {
    const peers = `http://127.0.0.1:${this.#ports[1]}`
    const child = spawn(process.env['ETCD'] ?? 'etcd', [
      '--name', 'default', '--data-dir', join(this.#folder, 'data'), '--listen-client-urls', this.endpoint, '--advertise-client-urls', this.endpoint,
      '--listen-peer-urls', peers, '--initial-advertise-peer-urls', peers, '--initial-cluster', `default=${peers}`, ...this.#more,
    ], { stdio: ['ignore', 'ignore', 'pipe'] })
    this.#child = child
    let said = ''
    await new Promise<void>((resolve, reject) => {
      child.stderr.on('data', (chunk: Buffer) => {
        said += chunk.toString('utf8')
        if (/ready to serve client requests/.test(said)) resolve()
      })
      child.once('error', reject)
      child.once('exit', () => reject(new Error(`etcd ended: ${said.slice(-2000)}`)))
    })
  }

  /** Ends it; its data stays. */
  async stop(): Promise<void> {
    const child = this.#child
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  }

  freeze(): void {
    this.#child?.kill('SIGSTOP')
  }

  thaw(): void {
    this.#child?.kill('SIGCONT')
  }

  async destroy(): Promise<void> {
    await this.stop()
    rmSync(this.#folder, { recursive: true })
  }

  /** A call of its gateway, as an operator's tool would make it. */
  async call(path: string, body: object): Promise<Record<string, unknown>> {
    const response = await fetch(`${this.endpoint}/v3/${path}`, { method: 'POST', body: JSON.stringify(body) })
    const answer = (await response.json()) as Record<string, unknown>
    if (!response.ok) throw new Error(`${path}: ${JSON.stringify(answer)}`)
    return answer
  }

  async put(key: string, value: string): Promise<void> {
    await this.call('kv/put', { key: base64(key), value: base64(value) })
  }

  /** What stands under a key: its value and its lease. */
  async get(key: string): Promise<{ value: string; lease: string; revision: string } | undefined> {
    const { kvs } = (await this.call('kv/range', { key: base64(key) })) as { kvs?: { value: string; lease?: string; mod_revision: string }[] }
    const found = kvs?.[0]
    return found && { value: Buffer.from(found.value, 'base64').toString('utf8'), lease: found.lease ?? '0', revision: found.mod_revision }
  }
}

const base64 = (text: string): string => Buffer.from(text).toString('base64')
