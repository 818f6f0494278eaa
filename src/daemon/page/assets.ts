/** The page's files, which stand beside this module, in src/ as in dist/. */
import { readFileSync } from 'node:fs'

const types = { html: 'text/html; charset=utf-8', css: 'text/css; charset=utf-8', js: 'text/javascript; charset=utf-8', svg: 'image/svg+xml' } as const

/** Nothing else is ever served, whatever is asked for. */
const files = {
  '/': 'index.html',
  '/icon.svg': 'icon.svg',
  '/page.css': 'page.css',
  '/main.js': 'main.js',
  '/dom.js': 'dom.js',
  '/verdicts.js': 'verdicts.js',
  '/pulses.js': 'pulses.js',
  '/ring.js': 'ring.js',
  '/sensors.js': 'sensors.js',
  '/incidents.js': 'incidents.js',
} as const

export interface Asset {
  readonly type: string
  readonly bytes: Buffer
}

/** @returns what is served at each path */
export function loadAssets(): ReadonlyMap<string, Asset> {
  return new Map(Object.entries(files).map(([path, file]) => {
    const ending = file.slice(file.lastIndexOf('.') + 1) as keyof typeof types
    return [path, { type: types[ending], bytes: readFileSync(new URL(`./assets/${file}`, import.meta.url)) }]
  }))
}
