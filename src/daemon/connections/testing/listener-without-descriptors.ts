/** Listens while it has no descriptor left, and tells how often its event loop has run for that: node listener-without-descriptors.ts PATH */
import { closeSync, openSync } from 'node:fs'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleepMs } from 'node:timers/promises'
import { networkAddon } from '../../../native/load.js'

const loops = (): number => (performance.nodeTiming as unknown as { uvMetricsInfo: { loopCount: number } }).uvMetricsInfo.loopCount
const addon = networkAddon()
const listener = new addon.DescriptorListener(process.argv[2] as string, (descriptor) => {
  process.stdout.write('accepted\n')
  addon.closeDescriptor(descriptor)
  listener.close()
  process.stdin.destroy()
})
const files: number[] = []
try {
  for (;;) files.push(openSync('/dev/null', 'r'))
} catch {
  process.stdout.write('full\n')
}
process.stdin.once('data', () => void (async () => {
  const before = loops()
  await sleepMs(500)
  process.stdout.write(`loops ${loops() - before}\n`)
  for (const each of files) closeSync(each)
})())
