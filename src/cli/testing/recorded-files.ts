/** The recorded host as files, for commands that are given `--memory FILE`. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { panickedHost, recordedCore } from '../../kernel/testing/panicked-host.js'
import { runCli, type CliResult } from './run-cli.js'

export class RecordedFiles {
  readonly folder = mkdtempSync(join(tmpdir(), 'recorded-'))
  readonly core = join(this.folder, 'host.core')
  readonly cache = join(this.folder, 'cache')

  constructor() {
    writeFileSync(this.core, recordedCore())
  }

  /** The same host with some bytes changed. @returns path */
  async changed(name: string, changes: readonly (readonly [address: bigint, bytes: Uint8Array])[]): Promise<string> {
    const host = await panickedHost()
    const bytes = recordedCore()
    for (const [address, replacement] of changes) {
      const [translated] = await host.memory.translate([address])
      const place = translated && 'physical' in translated ? host.physical.locate({ physical: translated.physical, length: replacement.length })?.[0] : undefined
      if (place === undefined) throw new Error(`0x${address.toString(16)} is not recorded`)
      bytes.set(replacement, place.offset)
    }
    const path = join(this.folder, name)
    writeFileSync(path, bytes)
    return path
  }

  /** @param words the command and what it is given, split at spaces */
  run(words: string, memory = this.core): Promise<CliResult> {
    return runCli([...words.split(' '), '--memory', memory, '--cache', this.cache])
  }

  remove(): void {
    rmSync(this.folder, { recursive: true })
  }
}
