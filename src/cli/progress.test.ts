import { Writable } from 'node:stream'
import { expect, it } from 'vitest'
import { Output } from './output.js'
import { Progress } from './progress.js'

function shownOn(isTTY: boolean, isWanted: boolean): string {
  let text = ''
  const stderr = Object.assign(new Writable({ write: (chunk: Buffer, _, done) => { text += chunk.toString('utf8'); done() } }), { isTTY })
  const progress = new Progress(new Output(stderr, stderr, false), isWanted)
  for (let done = 0; done <= 2048; done += 16) progress.show('copying', done, 2048)
  for (const done of [0, 1]) progress.show('thinking', done, 1)
  progress.end()
  return text
}

it('progress is told in steps of ten percent where it is wanted', () => {
  expect(shownOn(false, true)).toBe(`${Array.from({ length: 11 }, (_, i) => `copying: ${i * 10} % of 2 KiB\n`).join('')}thinking …\n`)
})

it('progress is told on one line of a terminal, which is left empty', () => {
  const text = shownOn(true, false)
  expect(text).not.toContain('\n')
  expect(text.split('\r\x1b[K').slice(-4)).toEqual(['copying: 100 % of 2 KiB', 'thinking …', 'thinking …', ''])
})

it('progress is not told to a file that did not ask', () => expect(shownOn(false, false)).toBe(''))
