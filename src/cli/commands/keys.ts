/** `backdoors keys`: the cluster's own certificate authority. */
import { InvalidArgumentError, type Command } from 'commander'
import type { Output } from '../output.js'

const examples = `
Examples:
  backdoors keys init --folder authority --cluster shop
  backdoors keys issue a --folder authority
  backdoors keys revoke a --folder authority

The folder is the operator's and stays off the nodes: who has it can issue certificates. "issue" fills
FOLDER/nodes/NODE, to be copied to the node; the configuration's "keys" names it there. A daemon takes up new keys
and a new revocation list on SIGHUP.`

interface CommonOptions {
  readonly folder: string
  readonly days?: number
  readonly json?: boolean
}

export function registerKeys(program: Command, output: Output): void {
  const keys = program.command('keys').description("the cluster's certificates").addHelpText('after', examples)
  registerInit(keys, output)
  registerIssue(keys, output)
  registerRevoke(keys, output)
}

function registerInit(keys: Command, output: Output): void {
  withFolder(keys.command('init'))
    .description('make the authority of a cluster, once')
    .requiredOption('--cluster <name>', 'the name of the cluster')
    .option('--days <days>', 'how long the authority lasts', parseDays)
    .addHelpText('after', '\nExample:\n  backdoors keys init --folder authority --cluster shop')
    .action(async ({ folder, cluster, days, json }: CommonOptions & { cluster: string }) => {
      const { initAuthority } = await import('../../keys/index.js')
      const { certificate } = await initAuthority(folder, { cluster, ...(days === undefined ? {} : { days }) })
      const notAfter = certificate.notAfter.toISOString()
      if (json) output.json({ folder, cluster, notAfter })
      else output.line(`The authority of cluster ${cluster} is in ${folder}; it lasts until ${notAfter}. Keep its key off the nodes.`)
    })
}

function registerIssue(keys: Command, output: Output): void {
  withFolder(keys.command('issue <node>'))
    .description("issue a node's key and certificate, or replace them")
    .option('--days <days>', 'how long the certificate lasts', parseDays)
    .addHelpText('after', '\nExample:\n  backdoors keys issue a --folder authority --days 90')
    .action(async (node: string, { folder, days, json }: CommonOptions) => {
      const { issueNode } = await import('../../keys/index.js')
      const issued = await issueNode(folder, node, days === undefined ? {} : { days })
      if (json) output.json({ ...issued, notAfter: issued.notAfter.toISOString() })
      else output.line(`Copy ${issued.folder} to node ${node}, and name it as "keys" in its configuration. Serial ${issued.serial}, valid until ${issued.notAfter.toISOString()}.`)
    })
}

function registerRevoke(keys: Command, output: Output): void {
  withFolder(keys.command('revoke <node-or-serial>'))
    .description('revoke all certificates of a node, or the one of a serial number')
    .addHelpText('after', '\nExamples:\n  backdoors keys revoke a --folder authority\n  backdoors keys revoke 0123456789abcdef0123456789abcdef --folder authority')
    .action(async (nodeOrSerial: string, { folder, json }: CommonOptions) => {
      const { revokeNode } = await import('../../keys/index.js')
      const { serials, revocationList } = await revokeNode(folder, nodeOrSerial)
      if (json) output.json({ serials, revocationList })
      else output.line(`Revoked: ${serials.join(', ')}. Bring ${revocationList} to the "keys" folder of every node, and send its daemon SIGHUP.`)
    })
}

function withFolder(command: Command): Command {
  return command.requiredOption('--folder <folder>', "the authority's folder").option('--json', 'one JSON object on stdout')
}

function parseDays(text: string): number {
  const days = Number(text)
  if (text.trim() !== '' && Number.isFinite(days) && days > 0) return days
  throw new InvalidArgumentError('It must be a positive number of days.')
}
