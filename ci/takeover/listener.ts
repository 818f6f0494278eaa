/**
 * Runs in a guest: listens to the audio stream, and holds every byte against what it has to be. Its first argument is a
 * `ListenerArguments` as JSON. Says `{"event":"heard"}` once the share `tellAt` of it has come, and `{"event":"judged"}` at its end.
 */
import { createHash } from 'node:crypto'
import { get } from 'node:http'
import { audioAt, streamBytes } from '../../examples/audio-stream/audio.js'

export interface ListenerArguments {
  readonly host: string
  readonly port: number
  readonly seconds: number
  /** From 0 to 1. */
  readonly tellAt: number
}

export interface ListenerJudgement {
  readonly bytes: number
  readonly expectedBytes: number
  readonly identical: boolean
  /** Position of the first byte that was another, if any was. */
  readonly firstWrongByte: number | undefined
  readonly sha256: string
  readonly longestGapMs: number
  readonly seconds: number
  readonly error: string | undefined
}

const say = (event: object): void => void process.stdout.write(`${JSON.stringify(event)}\n`)

function listen({ host, port, seconds, tellAt }: ListenerArguments): void {
  const expectedBytes = streamBytes(seconds)
  const hash = createHash('sha256')
  const startedMs = performance.now()
  let [bytes, lastMs, longestGapMs, told] = [0, startedMs, 0, false]
  let firstWrongByte: number | undefined
  const judge = (error?: string): never => {
    const judgement: ListenerJudgement = {
      bytes, expectedBytes, identical: bytes === expectedBytes && firstWrongByte === undefined, firstWrongByte, sha256: hash.digest('hex'),
      longestGapMs: Math.round(longestGapMs), seconds: (performance.now() - startedMs) / 1000, error,
    }
    say({ event: 'judged', ...judgement })
    process.exit(0)
  }
  const request = get({ host, port, path: '/hour.wav' }, (response) => {
    response.on('data', (chunk: Buffer) => {
      const nowMs = performance.now()
      longestGapMs = Math.max(longestGapMs, nowMs - lastMs)
      lastMs = nowMs
      hash.update(chunk)
      const expected = audioAt(bytes, chunk.length, seconds)
      if (!expected.equals(chunk)) firstWrongByte ??= bytes + chunk.findIndex((byte, i) => byte !== expected[i])
      bytes += chunk.length
      if (!told && bytes >= tellAt * expectedBytes) {
        told = true
        say({ event: 'heard', bytes })
      }
    })
    response.on('end', () => judge())
    response.on('error', (error) => judge(error.message))
  })
  request.on('error', (error) => judge(error.message))
}

listen(JSON.parse(process.argv[2] ?? '{}') as ListenerArguments)
