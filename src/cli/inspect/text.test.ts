import { describe, expect, it } from 'vitest'
import { columns, number, printable, word } from './text.js'

describe('text of a strange machine', () => {
  it.each([
    ['\x1b[2J\x07gone', '\\x1b[2J\\x07gone'],
    ['a\nb\rc\x7f\x9b1m', 'a\\x0ab\\x0dc\\x7f\\x9b1m'],
    ['txt.\u202eexe', 'txt.\\u202eexe'],
    ['\u{e0041}', '\\u{e0041}'],
    ['plain\ttext, größer, 名前', 'plain\ttext, größer, 名前'],
  ])('%j drives no terminal', (text, shown) => expect(printable(text)).toBe(shown))
})

describe('columns', () => {
  it('are as wide as their widest cell, numbers to the right, and say what is not known', () => {
    expect(columns([number('PID'), word('STAT'), word('COMMAND')], [[1, 'S', 'init'], [12345, undefined, 'a\nb']])).toEqual(['  PID STAT COMMAND', '    1 S    init', '12345 ?    a\\x0ab'])
  })

  it('are a head where there is nothing', () => expect(columns([number('PID')], [])).toEqual(['PID']))
})
