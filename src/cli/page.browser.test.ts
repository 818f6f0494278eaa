/** Daemons as processes of their own: one shows its page in a real browser, and another is killed. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { startBrowser } from '../daemon/page/testing/browser.js'
import { CliProcess } from './testing/cli-process.js'
import { compileProgram, type CompiledProgram } from './testing/compile.js'

let browser: Browser
let program: CompiledProgram
let folder: string
const running: CliProcess[] = []

beforeAll(async () => {
  browser = await startBrowser()
  program = compileProgram()
  folder = mkdtempSync(join(tmpdir(), 'backdoors-page-'))
})

afterEach(async () => {
  await Promise.all(running.splice(0).map((each) => each.destroy()))
})

afterAll(async () => {
  await browser?.close()
  program?.remove()
  rmSync(folder, { recursive: true })
})

async function daemon(node: string, peers: readonly string[]): Promise<{ process: CliProcess; page: string }> {
  const file = join(folder, `${node}.json`)
  const config = {
    node, log: 'silent', region: { path: join(folder, node), boxes: 2, sessionsPerBox: 16, heapBytes: 65_536 },
    peers: peers.map((name) => ({ name, region: join(folder, name) })), watch: { osDeadlineMs: 500 }, status: { http: { port: 0 } },
  }
  writeFileSync(file, JSON.stringify(config))
  const started = new CliProcess(program.main, ['daemon', '--config', file, '--json'])
  running.push(started)
  return { process: started, page: String((await started.event('listening'))['page']) }
}

describe('the page of a daemon', () => {
  it('shows its peer killed, recovered, and back', async () => {
    const victim = await daemon('b', [])
    const watcher = await daemon('a', ['b'])
    const page = await browser.newPage()
    const node = (verdict: string): Promise<void> => page.locator(`#ring [data-node="b"][data-verdict="${verdict}"]`).waitFor()
    await page.goto(watcher.page)
    await node('alive')
    victim.process.signal('SIGKILL')
    await node('os-stalled')
    const incident = page.locator('.incident[data-peer="b"][data-outcome="announced"]')
    await incident.waitFor()
    expect(await incident.locator('.steps li').count()).toBe(7)
    await daemon('b', [])
    await node('alive')
    await incident.filter({ hasText: 'alive again' }).waitFor()
    await page.locator('#history tr:nth-child(2)').waitFor()
    expect(await page.evaluate("[...document.querySelectorAll('#history tr')].map(({ dataset: { verdict } }) => verdict)")).toEqual(['alive', 'os-stalled'])
  })
})
