/** A simulated client: asks for one change of its session after another, and looks for whoever serves it when nobody answers. */
import { quiet, type Scheduled, type Simulation } from '../fabric/mock/simulation.js'
import type { Random } from '../fabric/mock/random.js'
import type { Answer, Server } from './server.js'
import { timing } from './timing.js'

export interface ClientOptions {
  readonly simulation: Simulation
  readonly id: string
  /** Those that could be asked; a client knows no more than their addresses. */
  readonly servers: () => readonly Server[]
  readonly first: Server
  /** Does the network let clients through to this machine? */
  readonly isOpen: (host: string) => boolean
}

export class Client {
  readonly #options: ClientOptions
  readonly #random: Random
  #value = 1
  #at: Server
  #request = 0
  #patience: Scheduled | undefined
  #stopped = false

  constructor(options: ClientOptions) {
    this.#options = options
    this.#random = options.simulation.random(`client ${options.id}`)
    this.#at = options.first
    this.#pause()
  }

  /** The highest value that it was told. */
  get value(): number {
    return this.#value
  }

  stop(): void {
    this.#stopped = true
    this.#patience?.cancel()
  }

  #pause(): void {
    this.#options.simulation.schedule(this.#random.integer(timing.clientPauseUs, 2 * timing.clientPauseUs), () => this.#ask())
  }

  #ask(): unknown {
    if (this.#stopped) return quiet
    const { simulation, id, isOpen } = this.#options
    const request = ++this.#request
    const server = this.#at
    const travelUs = (): number => this.#random.integer(timing.clientMessageUs, 2 * timing.clientMessageUs)
    const answer = (what: Answer): void => void (isOpen(server.life.host) && simulation.schedule(travelUs(), () => this.#answered(request, what)))
    this.#patience = simulation.schedule(timing.clientPatienceUs, () => this.#answered(request, { kind: 'gone' }))
    simulation.schedule(travelUs(), () => (isOpen(server.life.host) ? server.process.whenRunning(() => server.ask(id, this.#value + 1, answer)) : quiet))
    return quiet
  }

  #answered(request: number, answer: Answer): unknown {
    if (request !== this.#request || this.#stopped) return quiet
    this.#request++
    this.#patience?.cancel()
    if (answer.kind === 'committed') this.#value = Math.max(this.#value, answer.value)
    else if (answer.kind !== 'damaged') this.#lookElsewhere()
    this.#pause()
    return quiet
  }

  #lookElsewhere(): void {
    const servers = this.#options.servers().filter(({ alive }) => alive)
    const next = servers[(servers.indexOf(this.#at) + 1) % Math.max(1, servers.length)]
    if (next) this.#at = next
  }
}
