/** A fence agent of the test's own, that follows the conventions: options on standard input, exit status. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface MadeAgent {
  readonly path: string
  /** What it was told, one text for each call; its arguments and environment are kept beside. */
  calls(): { input: string; args: string[]; env: Record<string, string> }[]
}

/** @param then JavaScript that it runs once it has read its `input`; it exits with 0 where that does not end it */
export function makeAgent(folder: string, name: string, then = ''): MadeAgent {
  const path = join(folder, name)
  const log = `${path}.calls`
  const script = `#!${process.execPath}
const fs = require('node:fs')
const input = fs.readFileSync(0, 'utf8')
fs.appendFileSync(${JSON.stringify(log)}, JSON.stringify({ input, args: process.argv.slice(2), env: process.env }) + '\\n')
${then}
`
  writeFileSync(path, script, { mode: 0o755 })
  const calls = (): ReturnType<MadeAgent['calls']> => (existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n').map((line) => JSON.parse(line) as ReturnType<MadeAgent['calls']>[number]) : [])
  return { path, calls }
}
