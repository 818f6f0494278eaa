/** What the kernel lets this process do. */
import { capabilityName, neededForAddresses } from '../../native/capabilities.js'
import type { Finding, Purpose } from './finding.js'
import { hasCapability, softLimit } from './limits.js'
import type { Machine } from './machine.js'

export function checkRealTime(machine: Machine): Finding {
  const about = { check: 'real-time', why: 'The OS sensor is beaten by a real-time thread; without that, load alone can delay it past its deadline and get a healthy node fenced.' }
  const limit = softLimit(machine, 'Max realtime priority') ?? 0
  const privileged = hasCapability(machine, 'sysNice')
  if (privileged || limit > 0) return { ...about, severity: 'ok', seen: privileged ? 'CAP_SYS_NICE is held' : `RLIMIT_RTPRIO is ${limit}` }
  const mend = 'LimitRTPRIO=10 or AmbientCapabilities=CAP_SYS_NICE in the daemon\'s systemd unit, or "@group - rtprio 10" in limits.conf; else allow a longer watch.osDeadlineMs.'
  return { ...about, severity: 'warn', seen: 'neither CAP_SYS_NICE nor RLIMIT_RTPRIO', mend }
}

/** With group scheduling a real-time thread may be stopped for the rest of each period. */
export function checkRealTimeThrottling(machine: Machine): Finding {
  const about = { check: 'real-time-share', why: 'The kernel lets real-time threads run for a part of each period only; at 0 the OS sensor\'s thread would not run at all.' }
  const share = machine.readText('/proc/sys/kernel/sched_rt_runtime_us')
  if (share === undefined) return { ...about, severity: 'ok', seen: 'the kernel sets no share' }
  if (Number(share) !== 0) return { ...about, severity: 'ok', seen: `kernel.sched_rt_runtime_us is ${share}` }
  return { ...about, severity: 'warn', seen: 'kernel.sched_rt_runtime_us is 0', mend: 'sysctl kernel.sched_rt_runtime_us=950000' }
}

export function checkNetAdmin(machine: Machine, { takesAddresses = false }: Purpose): Finding {
  const about = { check: 'net-admin', why: 'Taking over a failed node\'s address needs CAP_NET_ADMIN, and CAP_NET_RAW to tell its neighbours, in the daemon or in its announce hook; recovering sessions does not.' }
  const needed = takesAddresses ? neededForAddresses : neededForAddresses.slice(0, 1)
  const missing = needed.filter((capability) => !hasCapability(machine, capability)).map(capabilityName)
  if (missing.length === 0) return { ...about, severity: 'ok', seen: `${needed.map(capabilityName).join(' and ')} held` }
  const mend = `AmbientCapabilities=${neededForAddresses.map(capabilityName).join(' ')} in the daemon's systemd unit, or an announce hook that has the right (sudo).`
  return { ...about, severity: takesAddresses ? 'bad' : 'warn', seen: `${missing.join(' and ')} not held${takesAddresses ? ', and recovery.addresses is configured: the daemon would not start' : ''}`, mend }
}
