/** The kernel's log made by hand, in a machine of its own with the recorded host's types. */
import { Kallsyms } from '../kallsyms.js'
import { KernelImage } from '../kernel-image.js'
import { x86FourLevel } from '../page-table-format.js'
import { builtNote } from './built-image.js'
import { packSymbols } from './kallsyms-builder.js'
import { writeMember } from './members.js'
import { PageTables } from './page-tables.js'

const base = 0xffff_ffff_8100_0000n
const pages = { first: 20, ring: 0, descriptors: 1, infos: 2, text: 6 }
const at = (page: number): bigint => base + BigInt(page * 4096)
const offsetOf = (page: number): number => (pages.first + page) * 4096

export const states = { reserved: 0n, committed: 1n, finalized: 2n, reusable: 3n } as const

/** A ring of 16 messages and 512 bytes of text. */
export class LogBuilder {
  readonly countBits = 4
  readonly sizeBits = 9
  readonly #tables = new PageTables(x86FourLevel)
  readonly #view: DataView
  readonly #image: KernelImage
  #next = 0n
  #position = 0n

  constructor(host: KernelImage) {
    for (let page = 0; page < 8; page++) this.#tables.map(at(page), offsetOf(page))
    this.#view = new DataView(this.#tables.ram.buffer)
    const symbols = new Kallsyms(packSymbols([{ type: 'd', name: 'prb', address: at(0) }, { type: 'd', name: 'ring', address: at(0) + 64n }], base - 4096n))
    this.#image = new KernelImage({ physical: this.#tables.physical, note: builtNote, format: x86FourLevel, memory: this.#tables.open(), symbols, types: host.types, notePhysical: 0 })
    const view = this.#view
    view.setBigUint64(offsetOf(0), at(0) + 64n, true)
    this.setRing('desc_ring.count_bits', BigInt(this.countBits))
    this.setRing('desc_ring.descs', at(pages.descriptors))
    this.setRing('desc_ring.infos', at(pages.infos))
    this.setRing('text_data_ring.size_bits', BigInt(this.sizeBits))
    this.setRing('text_data_ring.data', at(pages.text))
  }

  get ram(): Uint8Array {
    return this.#tables.ram
  }

  /** As it stands now. */
  image(): KernelImage {
    const { physical, note, format, symbols, types } = this.#image
    return new KernelImage({ physical, note, format, memory: this.#tables.open(), symbols, types, notePhysical: 0 })
  }

  setRing(member: string, value: bigint): void {
    this.#set('printk_ringbuffer', offsetOf(0) + 64, member, value)
  }

  setDescriptor(id: bigint, member: string, value: bigint): void {
    this.#set('prb_desc', offsetOf(pages.descriptors) + Number(id % 16n) * this.#sizeOf('prb_desc'), member, value)
  }

  setInfo(id: bigint, member: string, value: bigint): void {
    this.#set('printk_info', offsetOf(pages.infos) + Number(id % 16n) * this.#sizeOf('printk_info'), member, value)
  }

  /** As printk adds a message: the oldest make room. @returns its number */
  add(text: string, state: bigint = states.finalized): bigint {
    const id = this.#next++
    const bytes = Buffer.from(text)
    const size = BigInt(1 << this.sizeBits)
    const length = BigInt((8 + bytes.length + 7) & ~7)
    const begin = this.#position
    const isWhole = begin / size === (begin + length) / size
    const next = isWhole ? begin + length : ((begin + length) / size) * size + length
    const start = offsetOf(pages.text) + (isWhole ? Number(begin % size) : 0)
    this.#view.setBigUint64(start, id, true)
    this.#tables.ram.set(bytes, start + 8)
    this.#position = next
    this.setDescriptor(id, 'text_blk_lpos.begin', begin)
    this.setDescriptor(id, 'text_blk_lpos.next', next)
    this.setDescriptor(id, 'state_var', (state << 62n) | id)
    for (const [member, value] of Object.entries({ seq: id, ts_nsec: id * 1_000_000n, text_len: BigInt(bytes.length), caller_id: 7n })) this.setInfo(id, member, value)
    this.setRing('desc_ring.head_id', id)
    this.#giveUp(id, next - size)
    return id
  }

  /** Descriptors that are too old, or whose text is written over, become reusable. */
  #giveUp(head: bigint, textTail: bigint): void {
    let tail = head > 15n ? head - 15n : 0n
    let position = 0n
    for (let id = tail; id <= head; id++) {
      const descriptor = offsetOf(pages.descriptors) + Number(id % 16n) * this.#sizeOf('prb_desc')
      position = this.#view.getBigUint64(descriptor + (this.#image.types.member('prb_desc', 'text_blk_lpos.begin')?.offset ?? 0), true)
      if (position >= textTail) break
      this.setDescriptor(id, 'state_var', (states.reusable << 62n) | id)
      tail = id + 1n
    }
    this.setRing('desc_ring.tail_id', tail)
    this.setRing('text_data_ring.tail_lpos', position)
  }

  #sizeOf(structure: string): number {
    const { types } = this.#image
    return types.sizeOf(types.find(structure)?.id ?? 0)
  }

  #set(structure: string, start: number, path: string, value: bigint): void {
    writeMember(this.#view, this.#image.types, { structure, start, path }, value)
  }
}
