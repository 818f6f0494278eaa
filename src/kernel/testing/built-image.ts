/** A kernel image made by hand: some memory, and some types. */
import { Btf } from '../btf.js'
import { Kallsyms, type KernelSymbol } from '../kallsyms.js'
import { KernelImage } from '../kernel-image.js'
import { Vmcoreinfo } from '../vmcoreinfo.js'
import { packSymbols } from './kallsyms-builder.js'
import type { PageTables } from './page-tables.js'

/** Of a machine made by hand: its page tables begin at 0. */
export const builtNote = new Vmcoreinfo(Buffer.from('OSRELEASE=0-built\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff80000000\nNUMBER(phys_base)=0\n'))

export function imageOver(tables: PageTables, types: Uint8Array, symbols: readonly KernelSymbol[] = [{ name: 'none', type: 'D', address: 8n }]): KernelImage {
  return new KernelImage({
    physical: tables.physical, note: builtNote, format: tables.format, memory: tables.open(),
    symbols: new Kallsyms(packSymbols(symbols, 1n << 40n)), types: new Btf(types), notePhysical: 0,
  })
}
