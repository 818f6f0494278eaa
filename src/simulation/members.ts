/**
 * Who the members of the cluster are by the operator's word, and the file of them on each machine: it is replaced at a time of its own, so that
 * for a while each node knows others. What a daemon makes of its file is the product's own code (`src/daemon/membership/file-membership.ts`).
 */
import type { Random } from '../fabric/mock/random.js'
import { quiet, type Simulation } from '../fabric/mock/simulation.js'
import type { MemberFiles } from '../daemon/membership/member-files.js'

/** Where it is on each machine. */
export const membersPath = '/members.json'

/** Of the changes of a file, so many are not told of: the daemon finds them when it looks by itself. */
const untold = 0.1

/** The file of members on one machine; it outlives the machine's memory. */
export class MembersFile implements MemberFiles {
  /** Of the list that was written last. */
  revision: number
  #names: readonly string[]
  /** What an operator has left out of it by mistake. */
  readonly #lacking = new Set<string>()
  #writes = 1
  readonly #listeners = new Set<() => void>()

  constructor(names: readonly string[], revision: number) {
    this.#names = names
    this.revision = revision
  }

  stamp(): string {
    return String(this.#writes)
  }

  read(): string {
    return JSON.stringify(this.#names.filter((name) => !this.#lacking.has(name)).map((name) => ({ name, region: `/${name}` })))
  }

  watchFolder(_folder: string, onChange: () => void): () => void {
    this.#listeners.add(onChange)
    return () => this.#listeners.delete(onChange)
  }

  write(names: readonly string[], isTold: boolean): void {
    this.#names = names
    this.#wrote(isTold)
  }

  get isWhole(): boolean {
    return this.#lacking.size === 0
  }

  leaveOut(name: string): void {
    this.#lacking.add(name)
    this.#wrote(true)
  }

  putBack(): void {
    if (this.isWhole) return
    this.#lacking.clear()
    this.#wrote(true)
  }

  #wrote(isTold: boolean): void {
    this.#writes++
    if (isTold) for (const onChange of [...this.#listeners]) onChange()
  }
}

export class Members {
  readonly #simulation: Simulation
  readonly #random: Random
  readonly #files = new Map<string, MembersFile>()
  #names: readonly string[]
  #revision = 1

  constructor(simulation: Simulation, names: readonly string[]) {
    this.#simulation = simulation
    this.#random = simulation.random('members')
    this.#names = names
  }

  /** All that are members now, whether or not everybody knows it yet. */
  get names(): readonly string[] {
    return this.#names
  }

  has(name: string): boolean {
    return this.#names.includes(name)
  }

  /** Of a machine that is new it says what is true now. */
  fileOf(host: string): MembersFile {
    const file = this.#files.get(host) ?? new MembersFile(this.#names, this.#revision)
    this.#files.set(host, file)
    return file
  }

  /** Does any machine's file lack somebody by mistake? */
  get isWhole(): boolean {
    return [...this.#files.values()].every((file) => file.isWhole)
  }

  /** @param withinUs each machine has it in its file within so long */
  add(name: string, withinUs: number): void {
    if (!this.has(name)) this.#change([...this.#names, name], withinUs)
  }

  remove(name: string, withinUs: number): void {
    if (this.has(name)) this.#change(this.#names.filter((each) => each !== name), withinUs)
  }

  /** The file of one machine lacks a member for a while. */
  forget(host: string, name: string, us: number): void {
    const file = this.fileOf(host)
    file.leaveOut(name)
    this.#simulation.schedule(us, () => {
      file.putBack()
      return quiet
    })
  }

  /** No file lacks anybody by mistake from now on. */
  mend(): void {
    for (const file of this.#files.values()) file.putBack()
  }

  /** What comes late never takes back what is newer. */
  #change(names: readonly string[], withinUs: number): void {
    this.#names = names
    const revision = ++this.#revision
    for (const file of this.#files.values()) {
      const isTold = !this.#random.chance(untold)
      this.#simulation.schedule(this.#random.integer(0, withinUs), () => {
        if (file.revision >= revision) return quiet
        file.revision = revision
        file.write(names, isTold)
        return quiet
      })
    }
  }
}
