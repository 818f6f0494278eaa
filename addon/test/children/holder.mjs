/** Locks bytes 0 to 8 of a memory and holds them until it is killed: node holder.mjs PATH */
import { addon } from './addon.mjs'

const memory = new addon.SharedMemory({ path: process.argv[2] })
process.stdout.write(`${memory.lockBytes(0, 8) ? 'locked' : 'refused'}\n`)
setInterval(() => memory.length, 1000)
