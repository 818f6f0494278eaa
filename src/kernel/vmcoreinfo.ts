/**
 * VMCOREINFO: what a Linux kernel notes of itself for those who look at its memory after it has died.
 *
 * Source: Documentation/admin-guide/kdump/vmcoreinfo.rst of the Linux kernel. Lines of text: `OSRELEASE=…`, `PAGESIZE=4096`,
 * `SYMBOL(name)=hexadecimal`, `SIZE(name)=decimal`, `OFFSET(struct.member)=decimal`, `LENGTH(name)=decimal`, `NUMBER(name)=…`.
 */
import { BackdoorsError } from '../errors.js'

/** The note is a page at most. */
export const mostVmcoreinfoBytes = 4096
const firstLine = 'OSRELEASE='

export class Vmcoreinfo {
  readonly osRelease: string
  /** All of it, as it stands in memory. */
  readonly text: string
  readonly #values: ReadonlyMap<string, string>

  /**
   * @param bytes from its first line on; it ends at a NUL, or with the bytes
   * @throws BackdoorsError KERNEL_DATA_CORRUPT where it does not begin as one
   */
  constructor(bytes: Uint8Array) {
    const text = Buffer.from(bytes.subarray(0, mostVmcoreinfoBytes)).toString('latin1').split('\0', 1)[0] as string
    if (!text.startsWith(firstLine)) throw new BackdoorsError('KERNEL_DATA_CORRUPT', `A VMCOREINFO begins with ${firstLine}; this one does not.`, { field: 'VMCOREINFO' })
    this.text = text
    const values = new Map<string, string>()
    for (const line of text.split('\n')) {
      const at = line.indexOf('=')
      // The first of its kind counts: what follows a damaged line cannot take its place.
      if (at > 0 && !values.has(line.slice(0, at))) values.set(line.slice(0, at), line.slice(at + 1))
    }
    this.#values = values
    this.osRelease = values.get('OSRELEASE') as string
  }

  /** Address of a symbol; undefined where this kernel does not note it. */
  symbol(name: string): bigint | undefined {
    const text = this.#values.get(`SYMBOL(${name})`)
    return text !== undefined && /^[0-9a-f]{1,16}$/i.test(text) ? BigInt(`0x${text}`) : undefined
  }

  /** Size of a structure, in bytes. */
  sizeOf(structure: string): number | undefined {
    return count(this.#values.get(`SIZE(${structure})`))
  }

  /** Offset of a member in its structure, in bytes: `task_struct.tasks`. */
  offsetOf(member: string): number | undefined {
    return count(this.#values.get(`OFFSET(${member})`))
  }

  lengthOf(array: string): number | undefined {
    return count(this.#values.get(`LENGTH(${array})`))
  }

  /** A number that the kernel notes: `phys_base`, `pgtable_l5_enabled`. It may be negative. */
  number(name: string): bigint | undefined {
    const text = this.#values.get(`NUMBER(${name})`)
    return text !== undefined && /^-?(0x[0-9a-f]{1,16}|\d{1,20})$/i.test(text) ? signed(text) : undefined
  }

  /** `PAGESIZE`, in bytes. */
  get pageBytes(): number | undefined {
    return count(this.#values.get('PAGESIZE'))
  }

  /** `BUILD-ID`: the same for every boot of one kernel. In hexadecimal. */
  get buildId(): string | undefined {
    const text = this.#values.get('BUILD-ID')
    return text !== undefined && /^[0-9a-f]{16,64}$/.test(text) ? text : undefined
  }

  /** `KERNELOFFSET`: how far the kernel was moved from where it was linked to (KASLR). */
  get kernelOffset(): bigint | undefined {
    const text = this.#values.get('KERNELOFFSET')
    return text !== undefined && /^[0-9a-f]{1,16}$/i.test(text) ? BigInt(`0x${text}`) : undefined
  }
}

const signed = (text: string): bigint => (text.startsWith('-') ? -BigInt(text.slice(1)) : BigInt(text))

function count(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,9}$/.test(text) ? Number(text) : undefined
}

/**
 * Where notes begin in a piece of memory: at every `OSRELEASE=` whose line is followed by another. There are copies: the one
 * to trust is for the caller to choose, by what it knows of the rest.
 * @returns offsets, in ascending order
 */
export function findVmcoreinfo(bytes: Uint8Array): number[] {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const found: number[] = []
  for (let at = buffer.indexOf(firstLine); at >= 0; at = buffer.indexOf(firstLine, at + 1)) {
    const line = buffer.subarray(at, at + 256).toString('latin1')
    if (/^OSRELEASE=[\x21-\x7e]+\n[A-Z]/.test(line)) found.push(at)
  }
  return found
}
