/** docs/detection.md and docs/protocol.md list what there is to conclude and to answer. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { sights } from './second-opinion.js'
import { boxVerdicts, nodeVerdicts } from './verdict.js'

const detection = readFileSync(new URL('../../docs/detection.md', import.meta.url), 'utf8')
const protocol = readFileSync(new URL('../../docs/protocol.md', import.meta.url), 'utf8')

/** The first cells of the table that begins with this row, without their backquotes. */
function firstCells(page: string, heading: string, after = ''): string[] {
  const lines = page.slice(page.indexOf(after)).split('\n')
  const start = lines.findIndex((line) => line.startsWith(heading))
  expect(start).toBeGreaterThanOrEqual(0)
  const rows = lines.slice(start + 2)
  return rows.slice(0, rows.findIndex((line) => !line.startsWith('|'))).map((row) => /^\| `([a-z-]+)`/.exec(row)?.[1] ?? row)
}

describe('docs/detection.md', () => {
  it('lists every verdict on a node, in order', () => {
    expect(firstCells(detection, '| verdict |')).toEqual([...nodeVerdicts])
  })

  it('lists every verdict on a server, in order', () => {
    expect(firstCells(detection, '| verdict |', 'Of a server on a node')).toEqual([...boxVerdicts])
  })
})

describe('docs/protocol.md', () => {
  it('lists every answer to observe, and every verdict that may come with it', () => {
    expect(firstCells(protocol, '| `sees` |')).toEqual([...sights])
    const listed = /`verdict` is the answering node's own: ([^.]+)\./.exec(protocol)?.[1] ?? ''
    expect([...listed.matchAll(/`([a-z-]+)`/g)].map(([, kind]) => kind)).toEqual([...nodeVerdicts])
  })
})
