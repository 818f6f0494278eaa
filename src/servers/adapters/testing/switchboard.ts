/** An address that clients connect to, and that can be moved from one server to another, as a virtual IP is. */
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

export class Switchboard {
  readonly #connections = new Set<Socket>()
  readonly #server = createServer((client) => {
    if (this.#target === undefined) return void client.destroy()
    const server = connect(this.#target, '127.0.0.1')
    for (const [one, other] of [[client, server], [server, client]] as const) {
      this.#connections.add(one)
      one.pipe(other)
      one.on('error', () => undefined)
      one.once('close', () => (this.#connections.delete(one), other.destroy()))
    }
  })
  #target: number | undefined

  async open(): Promise<this> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return this
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** Cuts all connections; new ones go there, or are refused. */
  lead(target: number | undefined): void {
    this.#target = target
    for (const socket of [...this.#connections]) socket.destroy()
  }

  close(): void {
    this.lead(undefined)
    this.#server.close()
  }
}
