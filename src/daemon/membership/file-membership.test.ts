import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { nodeNumber, parseConfig, type DaemonConfig } from '../config.js'
import { FileMembership } from './file-membership.js'
import { openMembership, type Membership } from './membership.js'
import { namesOf, Observed } from './testing/observed.js'

let folder: string
let path: string
let observed: Observed
let opened: Membership[]

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'backdoors-members-'))
  path = join(folder, 'peers.yaml')
  observed = new Observed()
  opened = []
})

afterEach(async () => {
  for (const membership of opened) await membership.close()
  rmSync(folder, { recursive: true })
})

const configOf = (file = path): DaemonConfig => parseConfig({ node: 'a', membership: { file } })
const list = (...names: string[]): string => names.map((name) => `- { name: ${name}, region: ${name}.region }\n`).join('')

function open(file = path): FileMembership {
  const membership = new FileMembership(file, configOf(file), observed)
  opened.push(membership)
  membership.start()
  return membership
}

function replace(text: string): void {
  writeFileSync(`${path}.new`, text)
  renameSync(`${path}.new`, path)
}

describe('a file of peers', () => {
  it('is the membership, with paths from its own folder, and without this node itself', () => {
    writeFileSync(path, list('a', 'b', 'c'))
    expect(open().current).toEqual([{ name: 'b', region: join(folder, 'b.region'), owner: 0 }, { name: 'c', region: join(folder, 'c.region'), owner: 0 }])
  })

  it('may be JSON, and a list under "peers"', () => {
    writeFileSync(path, JSON.stringify({ peers: [{ name: 'b', region: '/dev/shm/b' }] }))
    expect(open().current).toEqual([{ name: 'b', region: '/dev/shm/b', owner: 0 }])
  })

  it('passes over machines that this node itself lends', () => {
    writeFileSync(path, '- { name: a, host: 10.0.0.1, port: 1 }\n- { name: vm, through: a }\n- { name: b, host: 10.0.0.2, port: 1 }\n')
    const config = parseConfig({ node: 'a', fabric: 'verbs', keys: 'keys', listen: { host: '10.0.0.1', port: 1 }, membership: { file: path } })
    expect(openMembership(config, observed).current).toEqual([{ name: 'b', host: '10.0.0.2', port: 1, owner: 0 }])
  })

  it.each([
    ['is not there', undefined, undefined],
    ['is no YAML', '- { name: b', undefined],
    ['is empty', '', 'peers'],
    ['is no list', 'name: b', 'peers'],
    ['has an unknown key', '- { name: b, region: b, prot: 1 }', 'peers[0].prot'],
    ['has a peer twice', list('b', 'c', 'b'), 'peers[2].name'],
    ['has a peer without a region', '- { name: b }', 'peers[0].region'],
    ['has a bomb of references', `x: &x [0]\na: &a [${'*x,'.repeat(50)}*x]\nb: &b [${'*a,'.repeat(50)}*a]\npeers: [${'*b,'.repeat(50)}*b]\n`, undefined],
    ['is too long', `# ${'x'.repeat(1 << 20)}\n[]`, undefined],
  ])('that %s at the start is an error of the configuration', (_, text, field) => {
    if (text !== undefined) writeFileSync(path, text)
    expect(() => open()).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID', details: expect.objectContaining({ path, ...(field ? { field } : {}) }) as unknown }))
  })
})

describe('a file that changes', () => {
  it('is followed when it is written over', async () => {
    writeFileSync(path, list('b'))
    const membership = open()
    writeFileSync(path, list('b', 'c'))
    await observed.until(() => namesOf(membership).length === 2)
    expect([namesOf(membership), observed.changes]).toEqual([['b', 'c'], 1])
  })

  it('is followed when another is renamed over it, again and again', async () => {
    writeFileSync(path, list('b'))
    const membership = open()
    for (const names of [['b', 'c'], ['c'], ['c', 'd', 'e']]) {
      const { changes } = observed
      replace(list(...names))
      await observed.until(() => observed.changes > changes)
      expect(namesOf(membership)).toEqual(names)
    }
  })

  it('is followed through a link that comes to lead elsewhere', async () => {
    for (const [version, names] of [['1', ['b']], ['2', ['c']]] as const) {
      mkdirSync(join(folder, version))
      writeFileSync(join(folder, version, 'peers.yaml'), list(...names))
    }
    symlinkSync('1', join(folder, 'latest'))
    const membership = open(join(folder, 'latest', 'peers.yaml'))
    symlinkSync('2', join(folder, 'next'))
    renameSync(join(folder, 'next'), join(folder, 'latest'))
    await observed.until(() => observed.changes === 1)
    expect(namesOf(membership)).toEqual(['c'])
  })

  it('changes nothing where it says the same', async () => {
    writeFileSync(path, list('b'))
    const membership = open()
    replace('broken')
    await observed.until(() => observed.troubles.length === 1)
    replace(`# the same\n${list('b')}`)
    await observed.until(() => observed.wells === 1)
    expect([namesOf(membership), observed.changes]).toEqual([['b'], 0])
  })

  it('leaves the membership as it is while it is broken, and says so once', async () => {
    writeFileSync(path, list('b'))
    const membership = open()
    replace('- { name: b, region: b')
    await observed.until(() => observed.troubles.length === 1)
    expect(observed.troubles[0]).toMatchObject({ code: 'CONFIG_INVALID', details: { path } })
    expect(membership.trouble).toBe(observed.troubles[0])
    expect(namesOf(membership)).toEqual(['b'])
    replace(list('b', 'c'))
    await observed.until(() => observed.wells === 1)
    expect([membership.trouble, observed.troubles.length]).toEqual([undefined, 1])
    await observed.until(() => observed.changes === 1)
    expect(namesOf(membership)).toEqual(['b', 'c'])
  })

  it('leaves the membership as it is while it is gone', async () => {
    writeFileSync(path, list('b'))
    const membership = open()
    unlinkSync(path)
    await observed.until(() => observed.troubles.length === 1)
    expect(namesOf(membership)).toEqual(['b'])
    replace(list('c'))
    await observed.until(() => observed.changes === 1)
    expect(namesOf(membership)).toEqual(['c'])
  })

  it('leaves the membership as it is where it becomes a link to itself', async () => {
    writeFileSync(path, list('b'))
    const membership = open()
    symlinkSync(path, `${path}.new`)
    renameSync(`${path}.new`, path)
    await observed.until(() => observed.troubles.length === 1)
    expect(observed.troubles[0]).toMatchObject({ code: 'CONFIG_INVALID', details: { path } })
    expect(namesOf(membership)).toEqual(['b'])
  })

  it('is refused where two names have the same number in claim words', async () => {
    const [one, other] = sameNumber()
    writeFileSync(path, list(one))
    const membership = open()
    replace(list(one, other))
    await observed.until(() => observed.troubles.length === 1)
    expect(observed.troubles[0]).toMatchObject({ code: 'CONFIG_INVALID', details: { field: 'peers[1].name' } })
    expect(namesOf(membership)).toEqual([one])
  })
})

/** Two names that share a number. */
function sameNumber(): [string, string] {
  const seen = new Map<number, string>()
  for (let i = 0; ; i++) {
    const name = `n${i}`
    const other = seen.get(nodeNumber(name))
    if (other !== undefined) return [other, name]
    seen.set(nodeNumber(name), name)
  }
}
