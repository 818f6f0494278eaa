/** Debian's Chromium, headless. */
import { accessSync, constants } from 'node:fs'
import { chromium, type Browser } from 'playwright-core'

/** Where another Chromium stands, its path. */
const executablePath = process.env['CHROMIUM'] ?? '/usr/bin/chromium'

/** @throws Error where there is no Chromium: these tests are never skipped */
export async function startBrowser(): Promise<Browser> {
  try {
    accessSync(executablePath, constants.X_OK)
  } catch (cause) {
    throw new Error(`There is no ${executablePath}: "apt-get install chromium", or say where it is (CHROMIUM).`, { cause })
  }
  return chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] })
}
