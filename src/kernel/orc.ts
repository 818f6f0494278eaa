/**
 * How to find the caller's frame from any instruction of a kernel, without frame pointers: x86-64's ORC tables.
 *
 * Source: arch/x86/include/asm/orc_types.h, arch/x86/kernel/unwind_orc.c and Documentation/arch/x86/orc-unwinder.rst of the
 * Linux kernel. One table has the addresses (32 bits, relative to themselves), in ascending order, another what applies from there
 * on; a third tells for each 256 bytes of text where in these to look.
 */
import type { BackdoorsError } from '../errors.js'
import type { KernelImage } from './kernel-image.js'
import { KernelObject, Selection } from './kernel-object.js'
import type { VirtualRange } from './virtual-memory.js'

/** `ORC_REG_*` */
export const orcRegisters = ['undefined', 'previous sp', 'dx', 'di', 'bp', 'sp', 'r10', 'r13', 'bp indirect', 'sp indirect'] as const
export type OrcRegister = (typeof orcRegisters)[number]

/** `UNWIND_HINT_TYPE_*`, with an `end` bit beside; since 6.4 `ORC_TYPE_*`. */
const typesWithEndBit = ['call', 'registers', 'some registers'] as const
const types = ['undefined', 'end', 'call', 'registers', 'some registers'] as const
export type OrcType = (typeof types)[number]

/** What applies at one instruction. */
export interface OrcEntry {
  readonly type: OrcType
  /** The frame's top is this register and the offset, or, indirect, what stands there. */
  readonly spRegister: OrcRegister
  readonly spOffset: bigint
  /** Where the caller's `bp` is kept. */
  readonly bpRegister: OrcRegister
  readonly bpOffset: bigint
}

const blockBytes = 256n
/** An instruction has a byte at least, so a block of text has no more entries. */
const mostBlockEntries = 512

export class OrcTables {
  readonly #image: KernelImage
  readonly #selection: Selection
  readonly #entryBytes: number
  readonly #text: { readonly start: bigint; readonly end: bigint }
  readonly #lookup: bigint
  readonly #addresses: bigint
  readonly #entries: bigint
  readonly #count: number
  readonly #known = new Map<bigint, OrcEntry | undefined>()

  /** @throws BackdoorsError KERNEL_UNSUPPORTED where this kernel has no ORC tables (CONFIG_UNWINDER_ORC, x86-64 only) */
  constructor(image: KernelImage) {
    this.#image = image
    this.#selection = new Selection(image.types, 'orc_entry', ['sp_offset', 'bp_offset', 'sp_reg', 'bp_reg', 'type'], ['end'])
    this.#entryBytes = image.types.sizeOf(image.types.find('orc_entry')?.id ?? 0)
    this.#text = { start: image.addressOf('_stext'), end: image.addressOf('_etext') }
    this.#lookup = image.addressOf('orc_lookup')
    this.#addresses = image.addressOf('__start_orc_unwind_ip')
    this.#entries = image.addressOf('__start_orc_unwind')
    this.#count = Number((image.addressOf('__stop_orc_unwind_ip') - this.#addresses) / 4n)
  }

  /** What applies at these instructions, in two batches; undefined outside the kernel's own text (modules), and where the tables are damaged. */
  async find(instructions: readonly bigint[]): Promise<(OrcEntry | undefined)[]> {
    const { start, end } = this.#text
    const fresh = [...new Set(instructions)].filter((ip) => !this.#known.has(ip) && ip >= start && ip < end)
    const blocks = await this.#image.memory.tryReadMany(fresh.map((ip) => ({ address: this.#lookup + ((ip - start) / blockBytes) * 4n, length: 8 })))
    const ranges = fresh.flatMap((ip, i) => {
      const bounds = boundsOf(blocks[i], this.#count)
      return bounds ? [{ ip, ...bounds }] : []
    })
    const read = await this.#image.memory.tryReadMany(ranges.flatMap(({ first, count }): VirtualRange[] => [
      { address: this.#addresses + BigInt(first * 4), length: count * 4 },
      { address: this.#entries + BigInt(first * this.#entryBytes), length: count * this.#entryBytes },
    ]))
    for (const [i, { ip, first }] of ranges.entries()) {
      const [addresses, entries] = [read[2 * i], read[2 * i + 1]]
      if (addresses instanceof Uint8Array && entries instanceof Uint8Array) this.#known.set(ip, this.#entryOf(ip, this.#addresses + BigInt(first * 4), addresses, entries))
    }
    return instructions.map((ip) => this.#known.get(ip))
  }

  /** The last entry at or below the instruction; where all are above, the first: what came before it in the block before. */
  #entryOf(ip: bigint, at: bigint, addresses: Uint8Array, entries: Uint8Array): OrcEntry | undefined {
    const view = new DataView(addresses.buffer, addresses.byteOffset, addresses.byteLength)
    let found = 0
    for (let i = 0; i * 4 < addresses.length; i++) if (at + BigInt(i * 4) + BigInt(view.getInt32(i * 4, true)) <= ip) found = i
    const bytes = entries.subarray(found * this.#entryBytes, (found + 1) * this.#entryBytes)
    return this.#decode(KernelObject.of(this.#selection, 0n, bytes))
  }

  #decode(entry: KernelObject): OrcEntry | undefined {
    const [spRegister, bpRegister] = [orcRegisters[entry.number('sp_reg')], orcRegisters[entry.number('bp_reg')]]
    const type = this.#typeOf(entry, spRegister)
    if (spRegister === undefined || bpRegister === undefined || type === undefined) return undefined
    return { type, spRegister, spOffset: entry.signed('sp_offset'), bpRegister, bpOffset: entry.signed('bp_offset') }
  }

  #typeOf(entry: KernelObject, spRegister: OrcRegister | undefined): OrcType | undefined {
    if (!this.#selection.has('end')) return types[entry.number('type')]
    if (spRegister === 'undefined') return entry.number('end') === 1 ? 'end' : 'undefined'
    return typesWithEndBit[entry.number('type')]
  }
}

/** Entries of one block of text: from the first to the one that the next block begins with, without it. */
function boundsOf(block: Uint8Array | BackdoorsError | undefined, total: number): { first: number; count: number } | undefined {
  if (!(block instanceof Uint8Array)) return undefined
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength)
  const [first, stop] = [view.getUint32(0, true), view.getUint32(4, true) + 1]
  const count = stop - first
  return count > 0 && count <= mostBlockEntries && stop <= total ? { first, count } : undefined
}
