/**
 * Names of open files, as `/proc` prints them.
 *
 * Source: fs/d_path.c of the Linux kernel: from a directory entry up to the root of its mount, and on from where that mount is.
 */
import { BackdoorsError } from '../../errors.js'
import type { KernelImage } from '../kernel-image.js'
import { KernelObject, Selection } from '../kernel-object.js'
import { pageBytes } from '../page-table-format.js'
import type { Faults } from '../walks.js'

export interface KernelPath {
  /** Address of the `vfsmount`. */
  readonly mount: bigint
  /** Address of the `dentry`. */
  readonly entry: bigint
}

/** `NAME_MAX`, in bytes. */
const mostNameBytes = 255
/** `PATH_MAX`: the kernel prints no longer path. In characters here. */
const mostPathLength = 4096
/** No path of that length has more parts; each may be a mount's root as well. */
const mostSteps = 4096

interface Entry {
  readonly parent: bigint
  readonly name: string
  readonly isUnhashed: boolean
  readonly operations: bigint
}

interface Mount {
  readonly root: bigint
  readonly parent: bigint
  readonly mountpoint: bigint
}

interface Climb {
  mount: bigint
  entry: bigint
  steps: number
  length: number
  readonly names: string[]
  result: string | BackdoorsError | undefined
}

/** Resolves many paths at once: each directory is read once, and all paths climb together. */
export class PathReader {
  readonly #image: KernelImage
  readonly #faults: Faults
  readonly #entrySelection: Selection
  readonly #mountSelection: Selection
  readonly #mountOffset: bigint
  readonly #entries = new Map<bigint, Entry | BackdoorsError>()
  readonly #mounts = new Map<bigint, Mount | BackdoorsError>()
  readonly #namers = new Map<bigint, bigint>()

  /** @throws BackdoorsError KERNEL_UNSUPPORTED */
  constructor(image: KernelImage, faults: Faults) {
    this.#image = image
    this.#faults = faults
    // The place of short names was renamed.
    this.#entrySelection = new Selection(image.types, 'dentry', ['d_parent', 'd_name.name', 'd_name.len', 'd_op', 'd_hash.pprev'], ['d_iname', 'd_shortname'])
    this.#mountSelection = new Selection(image.types, 'mount', ['mnt.mnt_root', 'mnt_parent', 'mnt_mountpoint'])
    this.#mountOffset = BigInt(image.types.member('mount', 'mnt')?.offset ?? 0)
  }

  /** In the order given; undefined where a name cannot be read, and why is among the faults. @throws what reading throws */
  async resolve(paths: readonly KernelPath[]): Promise<(string | undefined)[]> {
    const climbs = paths.map(({ mount, entry }): Climb => ({ mount, entry, steps: 0, length: 0, names: [], result: undefined }))
    for (let active = climbs; active.length > 0; active = active.filter(({ result }) => result === undefined)) {
      await this.#readEntries(active.map(({ entry }) => entry))
      await this.#readMounts(active.map(({ mount }) => mount))
      await this.#readNamers(active)
      for (const climb of active) while (climb.result === undefined && this.#step(climb));
    }
    const failed = new Set<BackdoorsError>()
    const results = climbs.map(({ result }) => {
      if (typeof result === 'string') return result
      if (result) failed.add(result)
      return undefined
    })
    this.#faults.push(...failed)
    return results
  }

  /** @returns false where it cannot go on before more is read */
  #step(climb: Climb): boolean {
    const [entry, mount] = [this.#entries.get(climb.entry), this.#mounts.get(climb.mount)]
    if (entry === undefined || mount === undefined) return false
    const isFirst = climb.steps++ === 0
    if (entry instanceof BackdoorsError) climb.result = entry
    else if (mount instanceof BackdoorsError) climb.result = mount
    else if (climb.steps > mostSteps || climb.length > mostPathLength) climb.result = this.#corrupt('a path has no end', climb.entry)
    else if (climb.entry === mount.root) this.#leaveMount(climb, mount)
    else if (isFirst && this.#namerOf(entry) !== 0n) climb.result = this.#specialName(entry)
    else if (entry.parent === climb.entry) climb.result = textOf(climb)
    else {
      // Only the file's own entry may have been deleted and still be in use.
      const name = isFirst && entry.isUnhashed ? `${entry.name} (deleted)` : entry.name
      climb.names.push(name)
      climb.length += name.length + 1
      climb.entry = entry.parent
    }
    return true
  }

  #leaveMount(climb: Climb, { parent, mountpoint }: Mount): void {
    const above = BigInt.asUintN(64, parent + this.#mountOffset)
    if (above === climb.mount) climb.result = textOf(climb)
    else {
      climb.entry = mountpoint
      climb.mount = above
    }
  }

  /** Address of the function that names files which stand in no directory; 0 for all others. */
  #namerOf({ operations }: Entry): bigint {
    return this.#namers.get(operations) ?? 0n
  }

  #specialName(entry: Entry): string | BackdoorsError {
    const namer = this.#namerOf(entry)
    if (this.#image.symbols.find('simple_dname')?.address === namer) return `/${entry.name} (deleted)`
    if (this.#image.symbols.find('anon_inodefs_dname')?.address === namer) return `anon_inode:${entry.name}`
    const { peer } = this.#image
    return new BackdoorsError('KERNEL_UNSUPPORTED', `A file of ${peer} is named by a function of its file system that is not known here.`, { peer, address: namer, field: 'dentry_operations.d_dname' })
  }

  async #readEntries(addresses: readonly bigint[]): Promise<void> {
    const unknown = [...new Set(addresses)].filter((address) => !this.#entries.has(address))
    const read = await this.#image.readObjects(this.#entrySelection, unknown)
    const far: { address: bigint; length: number; object: KernelObject }[] = []
    for (const [i, object] of read.entries()) {
      if (!(object instanceof KernelObject)) this.#entries.set(unknown[i] as bigint, object)
      else if (!this.#keepShort(object)) {
        const length = object.number('d_name.len')
        if (length < 1 || length > mostNameBytes) this.#entries.set(object.address, this.#corrupt(`a name of ${length} bytes`, object.address))
        else far.push({ address: object.pointer('d_name.name'), length, object })
      }
    }
    const names = await this.#image.memory.tryReadMany(far)
    for (const [i, name] of names.entries()) {
      const { object } = far[i] as (typeof far)[number]
      this.#entries.set(object.address, name instanceof BackdoorsError ? name : entryOf(object, new TextDecoder().decode(name)))
    }
  }

  /** Most names are short, and stand in the entry itself. */
  #keepShort(object: KernelObject): boolean {
    const member = ['d_iname', 'd_shortname'].find((path) => object.selection.has(path))
    if (member === undefined || object.pointer('d_name.name') !== object.addressOf(member)) return false
    const bytes = object.bytes(member)
    const length = object.number('d_name.len')
    if (length > bytes.length) return false
    this.#entries.set(object.address, entryOf(object, new TextDecoder().decode(bytes.subarray(0, length))))
    return true
  }

  async #readMounts(addresses: readonly bigint[]): Promise<void> {
    const unknown = [...new Set(addresses)].filter((address) => !this.#mounts.has(address))
    const read = await this.#image.readObjects(this.#mountSelection, unknown.map((address) => BigInt.asUintN(64, address - this.#mountOffset)))
    for (const [i, mount] of read.entries()) {
      const known = mount instanceof KernelObject ? { root: mount.pointer('mnt.mnt_root'), parent: mount.pointer('mnt_parent'), mountpoint: mount.pointer('mnt_mountpoint') } : mount
      this.#mounts.set(unknown[i] as bigint, known)
    }
  }

  async #readNamers(climbs: readonly Climb[]): Promise<void> {
    const operations = new Set<bigint>()
    for (const { entry, steps } of climbs) {
      const known = this.#entries.get(entry)
      if (steps === 0 && known !== undefined && !(known instanceof BackdoorsError) && known.operations !== 0n && !this.#namers.has(known.operations)) operations.add(known.operations)
    }
    const addresses = [...operations]
    const read = await this.#image.readObjects(new Selection(this.#image.types, 'dentry_operations', ['d_dname']), addresses)
    for (const [i, found] of read.entries()) {
      if (!(found instanceof KernelObject)) this.#faults.push(found)
      this.#namers.set(addresses[i] as bigint, found instanceof KernelObject ? found.pointer('d_dname') : 0n)
    }
  }

  #corrupt(what: string, address: bigint): BackdoorsError {
    const { peer } = this.#image
    return new BackdoorsError('KERNEL_DATA_CORRUPT', `${what} of ${peer}, at 0x${address.toString(16)}`, { peer, address })
  }
}

const textOf = ({ names }: Climb): string => `/${names.toReversed().join('/')}`

const entryOf = (object: KernelObject, name: string): Entry => ({
  parent: object.pointer('d_parent'),
  name,
  isUnhashed: object.pointer('d_hash.pprev') === 0n,
  operations: object.pointer('d_op'),
})

/** Strings of at most so many bytes, up to their NUL. */
export async function readTexts(image: KernelImage, wanted: readonly { readonly address: bigint; readonly length: number }[]): Promise<(string | BackdoorsError)[]> {
  // The page behind the string's own may not be there, and is not needed.
  const ranges = wanted.map(({ address, length }) => ({ address, length: Math.min(length, pageBytes - Number(address & BigInt(pageBytes - 1))) }))
  const read = await image.memory.tryReadMany(ranges)
  return read.map((bytes) => {
    if (bytes instanceof BackdoorsError) return bytes
    const end = bytes.indexOf(0)
    return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end))
  })
}
