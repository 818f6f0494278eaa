/** Room for the region, and the right to keep it in memory. */
import { dirname } from 'node:path'
import { formatBytes } from '../quantities.js'
import { badOnVerbs, type Finding, type Purpose } from './finding.js'
import { hasCapability, softLimit } from './limits.js'
import type { Machine } from './machine.js'

export function checkMemlock(machine: Machine, purpose: Purpose): Finding {
  const about = { check: 'memlock', why: 'A region that is paged out cannot be read by a peer; registering memory with an RDMA device locks it.' }
  const limit = softLimit(machine, 'Max locked memory')
  if (hasCapability(machine, 'ipcLock')) return { ...about, severity: 'ok', seen: 'CAP_IPC_LOCK: no limit applies' }
  if (limit === undefined) return { ...about, severity: 'warn', seen: 'the limit cannot be read from /proc/self/limits', mend: 'Look at "ulimit -l".' }
  const seen = `ulimit -l is ${limit === Infinity ? 'unlimited' : formatBytes(limit)}, the region takes ${formatBytes(purpose.regionBytes)}`
  if (limit >= purpose.regionBytes) return { ...about, severity: 'ok', seen }
  const mend = `Raise it: "* - memlock unlimited" in /etc/security/limits.conf, or LimitMEMLOCK=infinity in the daemon's systemd unit.`
  return { ...about, severity: badOnVerbs(purpose), seen, mend }
}

export function checkRegionSpace(machine: Machine, { regionPath, regionBytes }: Purpose): Finding {
  const folder = dirname(regionPath)
  const about = { check: 'region-space', why: 'The region is allocated in full when it is made, so that a server never meets a missing page.' }
  const space = machine.space(folder)
  if (space === undefined) return { ...about, severity: 'bad', seen: `there is no ${folder}`, mend: 'Mount a tmpfs there, or set region.path to a folder on one.' }
  // A region that is there already takes its room again when it is made anew.
  const present = Math.min(machine.fileBytes(regionPath) ?? 0, regionBytes)
  const seen = `${folder}: ${formatBytes(space.freeBytes)} of ${formatBytes(space.sizeBytes)} are free, the region takes ${formatBytes(regionBytes)}${present > 0 ? ' and is there already' : ''}`
  if (space.freeBytes + present >= regionBytes) return { ...about, severity: 'ok', seen }
  const mend = `Enlarge it ("mount -o remount,size=4G ${folder}"; in a container --shm-size), or lower region.boxes or region.heapBytes.`
  return { ...about, severity: 'bad', seen, mend }
}
