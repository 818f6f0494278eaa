import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { expectCode } from '../../addon/test/native-fixture.js'
import { memoryAddon } from './load.js'

const page = 4096
let folder: string
let path: string
let fd: number

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'backdoors-filled-'))
  path = join(folder, 'file')
  fd = openSync(path, 'w+')
})

afterEach(() => {
  closeSync(fd)
  rmSync(folder, { recursive: true })
})

const write = (offset: number, bytes: Uint8Array): number => memoryAddon().writeFilledPages(fd, path, offset, bytes)

describe('pages that are written to a sparse file', () => {
  it('are all that have one byte that is not zero, wherever it stands', () => {
    const bytes = new Uint8Array(7 * page)
    bytes[0] = 1
    bytes[2 * page - 1] = 2
    bytes[3 * page + 8] = 3
    bytes[6 * page + 4095] = 4
    expect(write(page, bytes)).toBe(4 * page)
    expect(readFileSync(path).subarray(page)).toEqual(Buffer.from(bytes))
  })

  it('are none of zeros, at the end neither', () => {
    expect(write(0, new Uint8Array(64 * page))).toBe(0)
    expect(statSync(path).size).toBe(0)
    const bytes = new Uint8Array(3 * page)
    bytes[1] = 1
    expect(write(page, bytes)).toBe(page)
    expect(statSync(path).size).toBe(2 * page)
  })

  it('may end with a part of one', () => {
    const bytes = new Uint8Array(page + 100)
    expect(write(0, bytes)).toBe(0)
    bytes[page + 99] = 9
    expect(write(0, bytes)).toBe(100)
    expect(readFileSync(path)).toEqual(Buffer.from(bytes))
    expect(write(0, new Uint8Array(0))).toBe(0)
    expect(write(0, Uint8Array.of(0))).toBe(0)
    expect(write(0, Uint8Array.of(1))).toBe(1)
  })

  it('say what kept them from being written', () => {
    const bytes = new Uint8Array(page).fill(1)
    expectCode(() => memoryAddon().writeFilledPages(2 ** 31 - 1, path, 0, bytes), 'SYSTEM_CALL_FAILED')
    for (const misuse of [[-1, path, 0, bytes], [fd, '', 0, bytes], [fd, path, -1, bytes], [fd, path, 0.5, bytes], [fd, path, 0, new Uint16Array(1)], []]) {
      expectCode(() => (memoryAddon().writeFilledPages as (...given: unknown[]) => number)(...misuse), 'INVALID_ARGUMENT')
    }
  })
})
