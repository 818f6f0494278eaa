/** What was stopped, and recovered elsewhere, runs on: a server after SIGSTOP, and a host whose hypervisor paused it. Both find themselves fenced. */
import type { Scenario } from '../scenario.js'
import { pausedHost } from './host-failure.js'
import { hostMachines } from './hosts.js'
import { stoppedServer } from './server-failure.js'

export const zombie: Scenario = {
  name: 'zombie',
  machines: hostMachines,
  summary: 'a server stopped by SIGSTOP, then a host paused by its hypervisor: recovered, and woken again they find themselves fenced',
  async run(context) {
    const server = await stoppedServer(context)
    context.log(JSON.stringify(server))
    const host = await pausedHost(context)
    return { ok: server.ok && host.ok, server, host }
  },
}
