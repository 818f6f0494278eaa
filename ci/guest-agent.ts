/**
 * The agent inside a guest: starts processes, passes their output on, signals them. Runs as a plain script with the
 * virtio serial port as its only argument. It imports nothing of the project, because every file costs start-up time
 * under emulation.
 */

import { spawn, type ChildProcess } from 'node:child_process'
import { createReadStream, openSync, readFileSync, readdirSync, writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { AgentEvent, AgentRequest } from './agent-protocol.js'

const rdmaPatienceMs = 30_000
const gidsPath = '/sys/class/infiniband/rxe0/ports/1/gids'

const port = openSync(process.argv[2] ?? '', 'r+')
const children = new Map<number, ChildProcess>()

/** Blocks while the rig is slow to read: the natural brake for a process that floods its output. */
function send(event: AgentEvent): void {
  const bytes = Buffer.from(`${JSON.stringify(event)}\n`)
  for (let sent = 0; sent < bytes.length; ) sent += writeSync(port, bytes, sent)
}

function start({ id, argv, env, cwd }: Extract<AgentRequest, { op: 'spawn' }>): void {
  // A session of its own, so that a signal can be sent to all that the process starts.
  const child = spawn(argv[0] ?? '', argv.slice(1), { cwd, env: { ...process.env, ...env }, detached: true })
  child.on('error', (error) => {
    send({ event: 'failed', id, message: error.message })
  })
  if (child.pid === undefined) return
  children.set(id, child)
  send({ event: 'started', id, pid: child.pid })
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream].on('data', (chunk: Buffer) => {
      send({ event: 'output', id, stream, data: chunk.toString('base64') })
    })
  }
  child.stdin.on('error', () => undefined) // the process closed its input: nothing to tell
  child.on('exit', (code, signal) => {
    send({ event: 'exit', id, code, signal })
  })
  child.on('close', () => {
    children.delete(id)
    send({ event: 'closed', id })
  })
}

function kill({ id, signal, group }: Extract<AgentRequest, { op: 'kill' }>): void {
  const pid = children.get(id)?.pid
  if (pid === undefined) return
  try {
    process.kill(group ? -pid : pid, signal)
  } catch {
    // It has just ended by itself; its exit says so.
  }
}

function handle(request: AgentRequest): void {
  const stdin = children.get(request.id)?.stdin
  switch (request.op) {
    case 'spawn':
      start(request)
      break
    case 'stdin':
      stdin?.write(Buffer.from(request.data, 'base64'))
      break
    case 'stdin-end':
      stdin?.end()
      break
    case 'kill':
      kill(request)
      break
  }
}

/** Index of the GID that is an IPv4 address and of type RoCE v2: RoCE v1, of the same address, stands beside it. */
function ipv4Gid(): number {
  const isIpv4 = (index: string) => readFileSync(`${gidsPath}/${index}`, 'utf8').startsWith('0000:0000:0000:0000:0000:ffff:')
  const isVersion2 = (index: string) => readFileSync(`${gidsPath}/../gid_attrs/types/${index}`, 'utf8').includes('v2')
  try {
    return Number(readdirSync(gidsPath).sort((a, b) => Number(a) - Number(b)).find((index) => isIpv4(index) && isVersion2(index)) ?? -1)
  } catch {
    return -1 // no device yet
  }
}

async function announce(): Promise<void> {
  const giveUpAt = Date.now() + rdmaPatienceMs
  let gidIndex = ipv4Gid()
  while (gidIndex < 0 && Date.now() < giveUpAt) {
    await sleep(20)
    gidIndex = ipv4Gid()
  }
  send({ event: 'ready', gidIndex, ...(gidIndex < 0 && { problem: 'rxe0 has no IPv4 GID' }) })
}

let unfinished = ''
createReadStream('', { fd: port, encoding: 'utf8' }).on('data', (chunk) => {
  const lines = (unfinished + String(chunk)).split('\n')
  unfinished = lines.pop() ?? ''
  for (const line of lines) handle(JSON.parse(line) as AgentRequest)
})
void announce()
