import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { knockFor } from './credentials.js'
import { encodeFrame, FrameDecoder } from './framing.js'
import { answerSchema, controlSchema, helloSchema, readMessage, toWire } from './messages.js'
import type { AnswerMessage, ControlMessage, HelloMessage } from './messages.js'
import { endpoints, welcome } from './testing/fixtures.js'

const page = await readFile(new URL('../../../docs/protocol.md', import.meta.url), 'utf8')

const hello: HelloMessage = { type: 'hello', protocolVersion: 1, cluster: 'shop', node: 'web-1', fabric: 'verbs', endpoints }
const answers: Record<string, AnswerMessage> = {
  welcome: { type: 'welcome', node: 'db-1', ...welcome },
  refused: { type: 'refused', code: 'cluster', message: 'this node does not belong to the cluster shop' },
}
const control: Record<string, ControlMessage> = {
  ping: { type: 'ping', id: 1 },
  pong: { type: 'pong', id: 1 },
  request: { type: 'request', id: 7, method: 'observe', body: { node: 'db-2' } },
  response: { type: 'response', id: 7, ok: true, body: { sees: 'sees-alive', verdict: 'alive' } },
  bye: { type: 'bye', reason: 'shutting down' },
}

/** Every frame of the worked example, by the name of its block. */
const frames = new Map<string, Buffer>([
  ['hello', encodeFrame(toWire(helloSchema, hello))],
  ...Object.entries(answers).map(([name, message]): [string, Buffer] => [name, encodeFrame(toWire(answerSchema, message))]),
  ...Object.entries(control).map(([name, message]): [string, Buffer] => [name, encodeFrame(toWire(controlSchema, message))]),
])

function block(frame: Buffer): string {
  return (frame.toString('hex').match(/.{1,64}/g) ?? []).join('\n')
}

/** The page's fenced blocks that are called `frame <name>`. */
function blocks(): Map<string, string> {
  return new Map([...page.matchAll(/```frame ([a-z]+)\n([0-9a-f\n]+)\n```/g)].map((match) => [match[1]!, match[2]!]))
}

test('the page shows the bytes that are sent, frame by frame', () => {
  expect(Object.fromEntries(blocks())).toEqual(Object.fromEntries([...frames].map(([name, frame]) => [name, block(frame)])))
})

test('the JSON beside each block is what the block says', () => {
  for (const [name, frame] of frames) expect([name, page.includes(`\n    ${frame.subarray(4).toString()}\n`)]).toEqual([name, true])
})

test('the bytes on the page are read as the messages they are said to be', () => {
  const decoder = new FrameDecoder()
  for (const text of blocks().values()) decoder.push(Buffer.from(text.replaceAll('\n', ''), 'hex'))
  expect(readMessage(helloSchema, decoder.next()!)).toEqual(hello)
  for (const message of Object.values(answers)) expect(readMessage(answerSchema, decoder.next()!)).toEqual(message)
  for (const message of Object.values(control)) expect(readMessage(controlSchema, decoder.next()!)).toEqual(message)
  expect(decoder.heldBytes).toBe(0)
})

test('the knock on the page is the one that is used', () => {
  expect(page).toContain(`the knock for \`db-1\` is \`${knockFor(new Uint8Array(32), 'db-1')}\``)
})
