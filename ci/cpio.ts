/**
 * Writes the "newc" cpio archive that Linux unpacks as its first root file system. Written here, because device nodes
 * can then be put into the archive without being root on the host.
 * Format: Documentation/driver-api/early-userspace/buffer-format.rst in the Linux sources.
 */

export type CpioEntry =
  | { readonly path: string; readonly kind: 'folder' }
  | { readonly path: string; readonly kind: 'file'; readonly content: Uint8Array; readonly executable: boolean }
  | { readonly path: string; readonly kind: 'link'; readonly target: string }
  | { readonly path: string; readonly kind: 'character-device'; readonly major: number; readonly minor: number }

/** The archive of `entries`, in their order: a folder must stand before what is in it. Paths carry no leading slash. */
export function cpioArchive(entries: readonly CpioEntry[]): Buffer {
  const parts = entries.flatMap((entry, index) => record(entry, index + 1))
  parts.push(...record({ path: 'TRAILER!!!', kind: 'file', content: new Uint8Array(), executable: false }, 0))
  return Buffer.concat(parts)
}

function record(entry: CpioEntry, inode: number): Buffer[] {
  const content = contentOf(entry)
  const [major, minor] = entry.kind === 'character-device' ? [entry.major, entry.minor] : [0, 0]
  const name = Buffer.from(`${entry.path}\0`)
  const fields = [inode, modeOf(entry), 0, 0, 1, 0, content.length, 0, 0, major, minor, name.length, 0]
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`
  return [padded(Buffer.concat([Buffer.from(header, 'ascii'), name])), padded(content)]
}

function contentOf(entry: CpioEntry): Buffer {
  if (entry.kind === 'file') return Buffer.from(entry.content)
  return Buffer.from(entry.kind === 'link' ? entry.target : '')
}

function modeOf(entry: CpioEntry): number {
  switch (entry.kind) {
    case 'folder':
      return 0o040755
    case 'file':
      return entry.executable ? 0o100755 : 0o100644
    case 'link':
      return 0o120777
    case 'character-device':
      return 0o020600
  }
}

/** Every header with its name, and every content, is filled up to a multiple of four bytes. */
function padded(bytes: Buffer): Buffer {
  const rest = bytes.length % 4
  return rest === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(4 - rest)])
}
