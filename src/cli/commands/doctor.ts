/** `backdoors doctor`: what on this machine would keep Backdoors from working, and the mend. */
import type { Command } from 'commander'
import type { Finding, Purpose } from '../doctor/finding.js'
import type { Machine } from '../doctor/machine.js'
import { exitCodes } from '../exit-codes.js'
import type { Output } from '../output.js'

const examples = `
Examples:
  backdoors doctor
  backdoors doctor --config /etc/backdoors.yaml
  backdoors doctor --json

With --config the checks are for what that configuration asks for: its fabric, its region's path and size. Without,
they are for a region of the default size, on verbs where an RDMA device is present and on shm elsewhere.
A fence agent of the configuration is asked (action=monitor) whether its device answers.
What only matters where memory has to outlive its operating system is bad on verbs and a warning on shm.

Run it as the user, and with the limits, that the daemon will have. Exits with 1 where a finding is bad.`

export function registerDoctor(program: Command, output: Output): void {
  program
    .command('doctor')
    .description('what on this machine would keep Backdoors from working, and its mend')
    .option('--config <file>', "check for this daemon's configuration")
    .option('--json', 'one JSON object on stdout')
    .addHelpText('after', examples)
    .action(async ({ config, json }: { config?: string; json?: boolean }) => {
      const { examine } = await import('../doctor/examine.js')
      const { thisMachine } = await import('../doctor/machine.js')
      const purpose = await purposeOf(config, thisMachine)
      const findings = [...examine(thisMachine, purpose), ...(await examineFencing(config))]
      const bad = findings.some(({ severity }) => severity === 'bad')
      if (json) output.json({ ok: !bad, purpose, findings })
      else print(findings, purpose, output)
      if (bad) output.exitCode = exitCodes.failed
    })
}

async function purposeOf(configPath: string | undefined, machine: Machine): Promise<Purpose> {
  const { defaultGeometry, planRegion } = await import('../../region/layout.js')
  if (configPath === undefined) {
    const fabric = (machine.verbsDevices() ?? []).length > 0 ? 'verbs' : 'shm'
    return { fabric, regionPath: '/dev/shm/backdoors-NODE', regionBytes: planRegion(defaultGeometry).regionBytes }
  }
  const { loadConfig } = await import('../../daemon/config.js')
  const { fabric, region, recovery } = loadConfig(configPath)
  const { boxes: boxCount, sensorsPerBox, sessionsPerBox, heapBytes, path: regionPath } = region
  return { fabric, regionPath, regionBytes: planRegion({ boxCount, sensorsPerBox, sessionsPerBox, heapBytes }).regionBytes, takesAddresses: recovery.addresses.length > 0 }
}

/** Only a configuration names a fence agent; its device is asked over the network, and nothing is done to anybody. */
async function examineFencing(configPath: string | undefined): Promise<Finding[]> {
  if (configPath === undefined) return []
  const { checkFenceAgent } = await import('../doctor/check-fence-agent.js')
  const { loadConfig } = await import('../../daemon/config.js')
  return checkFenceAgent(loadConfig(configPath))
}

function print(findings: readonly Finding[], { fabric }: Purpose, output: Output): void {
  for (const { check, severity, seen, why, mend } of findings) {
    output.line(`${severity.padEnd(5)}${check}: ${seen}`)
    if (severity === 'ok') continue
    output.line(`     why:  ${why}`)
    if (mend !== undefined) output.line(`     mend: ${mend}`)
  }
  const count = (wanted: Finding['severity']): number => findings.filter(({ severity }) => severity === wanted).length
  output.line(`${findings.length} checks for ${fabric}: ${count('ok')} ok, ${count('warn')} warnings, ${count('bad')} bad`)
}
