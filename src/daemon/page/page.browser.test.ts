/** The daemon's page in a real browser, while nodes fail. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { DaemonConfigInput } from '../config.js'
import { startDaemon, type Daemon } from '../daemon.js'
import { FakeNode, testDeadlineMs, testGeometry } from '../testing/fake-node.js'
import { startBrowser } from './testing/browser.js'

let browser: Browser
let folder: string
let context: BrowserContext
let page: Page
let troubles: string[]
let requests: string[]
let closers: (() => unknown)[]

beforeAll(async () => {
  browser = await startBrowser()
})

afterAll(async () => {
  await browser?.close()
})

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'backdoors-page-'))
  closers = []
  troubles = []
  requests = []
  context = await browser.newContext({ viewport: { width: 1280, height: 1000 } })
  page = await context.newPage()
  page.on('pageerror', (error) => troubles.push(error.message))
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') troubles.push(message.text())
  })
  page.on('request', (request) => requests.push(request.url()))
})

afterEach(async () => {
  await context.close()
  for (const close of closers.reverse()) await close()
  rmSync(folder, { recursive: true })
})

const { boxCount, ...sizes } = testGeometry

const configOf = (node: string, peers: readonly string[]): DaemonConfigInput => ({
  node, cluster: 'test', log: 'silent',
  region: { path: join(folder, node), boxes: boxCount, ...sizes },
  peers: peers.map((name) => ({ name, region: join(folder, name) })),
  watch: { peers: 2, intervalUs: 500, osDeadlineMs: testDeadlineMs, refreshMs: 20 },
})

async function daemon(node: string, peers: readonly string[]): Promise<Daemon> {
  const started = await startDaemon({ ...configOf(node, peers), status: { http: { port: 0 } } })
  closers.push(() => started.close())
  return started
}

function fake(name: string): FakeNode {
  const made = new FakeNode(name, join(folder, name))
  closers.push(() => made.close())
  return made
}

const pageOf = (of: Daemon): string => of.status().page as string
const ringNode = (name: string, verdict: string) => page.locator(`#ring [data-node="${name}"][data-verdict="${verdict}"]`)
const waitFor = async (selector: string): Promise<void> => page.locator(selector).first().waitFor()

describe('the page', () => {
  it('shows the cluster as it is, and a node that stops from suspicion to announcement, live', async () => {
    const [b] = [fake('b'), fake('c'), fake('d')]
    b.commit('u1', 'one apple')
    b.commit('u2', 'two pears')
    const a = await daemon('a', ['b', 'c', 'd'])
    await page.goto(pageOf(a))
    await ringNode('b', 'alive').waitFor()
    await ringNode('c', 'alive').waitFor()
    await ringNode('d', 'not watched from here').waitFor()
    expect(await page.locator('#node').textContent()).toBe('a')
    // Who watches whom: this node's own arrows, and the others' by the rule.
    expect(await page.evaluate("[...document.querySelectorAll('#ring .edge.own')].map(({ dataset: { from, to } }) => `${from}>${to}`).sort()")).toEqual(['a>b', 'a>c'])
    expect(await page.locator('#ring .edge').count()).toBe(8)
    // Each sensor's pulse moves.
    await waitFor('[data-peer="b"] [data-sensor="os"][data-state="moves"] .bar:not(.gap)')
    await waitFor('[data-peer="b"] [data-sensor="event-loop"][data-server="web"][data-state="moves"]')
    expect(await page.locator('#no-incidents').isVisible()).toBe(true)
    b.stop()
    // Seen without a reload: the verdict in the picture, the still sensor, the incident up to its announcement.
    await ringNode('b', 'os-stalled').waitFor()
    await waitFor('[data-peer="b"] [data-sensor="os"][data-state="stalled"]')
    await waitFor('.incident[data-peer="b"][data-outcome="announced"]')
    expect(await page.evaluate("[...document.querySelectorAll('.incident[data-peer=\"b\"] .steps li')].map(({ dataset: { step } }) => step)")).toEqual(['moved', 'suspected', 'fenced', 'claimed', 'extracted', 'adopted', 'announced'])
    expect(await page.locator('.incident[data-peer="b"] .result').textContent()).toMatch(/^2 of 2 sessions adopted, 0 lost; announced \S+ \S+ after the last sign of life$/)
    expect(await page.locator('#history tr[data-verdict="os-stalled"]').count()).toBe(1)
    // The plan has healed: the next node is watched in its stead.
    await waitFor('#ring .edge.own[data-to="d"]')
    expect(troubles).toEqual([])
    expect(new Set(requests.map((url) => new URL(url).origin + '/'))).toEqual(new Set([pageOf(a)]))
  })

  it('shows what a daemon measures of its machine beside its limits, and how long reads take', async () => {
    const roomy = { region: { path: join(folder, 'b'), boxes: boxCount, ...sizes, sensorsPerBox: 16 }, sensors: { intervalMs: 100 } }
    const b = await startDaemon({ ...configOf('b', ['a']), ...roomy })
    closers.push(() => b.close())
    const a = await daemon('a', ['b'])
    await page.goto(pageOf(a))
    await waitFor('[data-peer="b"] [data-gauge="mem-used-bytes"] .gauge')
    expect(await page.locator('[data-peer="b"] [data-gauge="mem-used-bytes"] .says').textContent()).toMatch(/^(! )?[0-9.]+ [KMGT]iB of [0-9.]+ [KMGT]iB$/)
    expect(await page.locator('[data-peer="b"] .trip').textContent()).toMatch(/^p50 \S+ \S+, p99 \S+ \S+ · /)
    expect(troubles).toEqual([])
  })

  it('shows a server that is gone on a node that lives on', async () => {
    const b = fake('b')
    b.commit('u1', 'one apple')
    const a = await daemon('a', ['b'])
    await page.goto(pageOf(a))
    await ringNode('b', 'alive').waitFor()
    await waitFor('[data-peer="b"] [data-server="web"]')
    b.exitServer()
    await ringNode('b', 'a server failed').waitFor()
    await waitFor('.incident[data-peer="b"][data-outcome="announced"] .result')
    expect(await page.locator('.incident h3').textContent()).toMatch(/^web on bapp-exitedrecovered/)
  })

  it('takes what a strange memory calls itself for text', async () => {
    const evil = '<img/src=x onerror=document.title="owned">'
    const b = fake('b')
    const a = await daemon('a', ['b'])
    await page.goto(pageOf(a))
    const { BoxOwner } = await import('../../region/box-owner.js')
    const owner = BoxOwner.take(b.region, { name: evil.slice(0, 40) })
    const sensor = owner.sensor({ name: '<b>\u202eod</b>', kind: 'progress', deadlineUs: 60_000_000 })
    const beating = setInterval(() => sensor.beat(), 5)
    closers.push(() => clearInterval(beating))
    await page.getByText('<b>\\u202eod</b>').waitFor()
    expect(await page.locator('main img, main b:has-text("od")').count()).toBe(0)
    expect(await page.title()).toBe('a · Backdoors')
    expect(troubles).toEqual([])
  })

  it('says when the daemon does not answer any more, and goes on when it is back', async () => {
    const a = await daemon('a', [])
    const url = pageOf(a)
    await page.goto(url)
    await waitFor('#link[data-state="live"]')
    await a.close()
    await waitFor('#link[data-state="lost"]')
    const again = await startDaemon({ ...configOf('a', []), status: { http: { port: Number(new URL(url).port) } } })
    closers.push(() => again.close())
    await waitFor('#link[data-state="live"]')
  })

  it('is legible in the dark, and on a narrow screen', async () => {
    fake('b')
    const a = await daemon('a', ['b'])
    await page.emulateMedia({ colorScheme: 'dark' })
    await page.setViewportSize({ width: 390, height: 800 })
    await page.goto(pageOf(a))
    await ringNode('b', 'alive').waitFor()
    expect(await page.evaluate('getComputedStyle(document.body).backgroundColor')).toBe('rgb(13, 19, 27)')
    expect(await page.evaluate('document.documentElement.scrollWidth <= innerWidth')).toBe(true)
  })

  it('cannot be read by a page of another origin', async () => {
    const a = await daemon('a', [])
    await page.goto('about:blank')
    const read = (url: string): Promise<unknown> => page.evaluate(`fetch(${JSON.stringify(url)}).then((response) => response.status, (error) => error.name)`)
    expect(await read(`${pageOf(a)}status.json`)).toBe('TypeError')
    expect(troubles.join()).toMatch(/CORS|Cross-Origin/)
  })
})
