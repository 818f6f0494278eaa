/** The commands that look at this machine, whatever it is: their form is tested here, their judgement beside the checks. */
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadNodeKeys } from '../../keys/index.js'
import type { Finding } from '../doctor/finding.js'
import { jsonOf, runCli } from '../testing/run-cli.js'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'backdoors-cli-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

describe('doctor', () => {
  it('prints each finding, and exits with 1 exactly where one is bad', async () => {
    const result = await runCli('doctor --json')
    const { ok, findings } = jsonOf(result) as { ok: boolean; findings: Finding[] }
    expect(ok).toBe(!findings.some(({ severity }) => severity === 'bad'))
    expect(result.exitCode).toBe(ok ? 0 : 1)
    const text = await runCli('doctor')
    expect(text.exitCode).toBe(result.exitCode)
    for (const { check, severity } of findings) expect(text.stdout).toMatch(new RegExp(`^${severity} +${check}: `, 'm'))
  })

  it('checks for the region of a configuration', async () => {
    const config = join(folder, 'sound.yaml')
    writeFileSync(config, `node: a\nregion: { path: ${folder}/a.region, boxes: 2, heapBytes: 65536 }\n`)
    const result = await runCli(['doctor', '--config', config, '--json'])
    expect(jsonOf(result)).toMatchObject({ purpose: { fabric: 'shm', regionPath: `${folder}/a.region` }, findings: expect.arrayContaining([expect.objectContaining({ check: 'region-space', severity: 'ok' })]) as Finding[] })
  })

  it('refuses a region that no process can map', async () => {
    const config = join(folder, 'large.yaml')
    writeFileSync(config, `node: a\nregion: { path: ${folder}/a.region, boxes: 64, heapBytes: ${2 ** 31} }\n`)
    const result = await runCli(['doctor', '--config', config, '--json'])
    expect(result.exitCode).toBe(2)
    expect(result.stderr).toMatch(/region: 64 boxes .*CONFIG_INVALID/)
  })
})

describe('devices', () => {
  it('exits with 0 where one is usable and with 3 elsewhere, and says which case it is', async () => {
    const result = await runCli('devices --json')
    const answer = jsonOf(result) as { default?: string | null; error?: { code: string } }
    if (answer.error) expect(answer.error.code).toBe('VERBS_UNAVAILABLE')
    expect(result.exitCode).toBe(typeof answer.default === 'string' ? 0 : 3)
    const text = await runCli('devices')
    expect(text.exitCode).toBe(result.exitCode)
    expect(text.stdout + text.stderr).toMatch(/VERBS_UNAVAILABLE|no RDMA device|None has an active port|Used where the configuration names none/)
  })
})

describe('keys', () => {
  it('makes an authority, issues a node its folder, and revokes it', async () => {
    const authority = join(folder, 'authority')
    expect(await runCli(['keys', 'init', '--folder', authority, '--cluster', 'shop'])).toMatchObject({ exitCode: 0, stdout: expect.stringContaining('cluster shop') as string })
    const issued = await runCli(['keys', 'issue', 'a', '--folder', authority, '--days', '30', '--json'])
    const { folder: nodeFolder, serial } = jsonOf(issued) as { folder: string; serial: string }
    expect(issued.exitCode).toBe(0)
    expect(await loadNodeKeys(nodeFolder)).toMatchObject({ node: 'a', serial })
    expect(statSync(join(nodeFolder, 'node.key')).mode & 0o077).toBe(0)
    const revoked = await runCli(['keys', 'revoke', 'a', '--folder', authority, '--json'])
    expect(jsonOf(revoked)).toMatchObject({ serials: [serial] })
  })

  it('does not overwrite an authority, and says so with exit code 1', async () => {
    const authority = join(folder, 'twice')
    await runCli(['keys', 'init', '--folder', authority, '--cluster', 'shop'])
    expect(await runCli(['keys', 'init', '--folder', authority, '--cluster', 'shop'])).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('(KEYS_EXIST)') as string })
  })

  it('without an authority ends with 3', async () => {
    expect(await runCli(['keys', 'issue', 'a', '--folder', join(folder, 'none')])).toMatchObject({ exitCode: 3, stderr: expect.stringContaining('(KEYS_MISSING)') as string })
  })

  it('refuses a name that cannot stand in a certificate, with exit code 2', async () => {
    expect(await runCli(['keys', 'init', '--folder', join(folder, 'bad'), '--cluster', 'Not a name'])).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('(INVALID_ARGUMENT)') as string })
  })
})
