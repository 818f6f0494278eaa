/** Locks a file and holds it until it is killed: node file-holder.mjs PATH */
import { openSync } from 'node:fs'
import { addon } from './addon.mjs'

process.stdout.write(`${addon.lockFile(openSync(process.argv[2], 'r+'), process.argv[2]) ? 'locked' : 'refused'}\n`)
setInterval(() => undefined, 1000)
