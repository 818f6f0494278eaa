/** What the kernel does when it fails: a machine that resets itself takes its memory with it. */
import { badOnVerbs, type Finding, type Purpose } from './finding.js'
import type { Machine } from './machine.js'

const sysctl = (machine: Machine, name: string): number | undefined => {
  const text = machine.readText(`/proc/sys/kernel/${name}`)
  return text === undefined || text === '' ? undefined : Number(text)
}

export function checkPanic(machine: Machine, purpose: Purpose): Finding {
  const about = { check: 'kernel-panic', why: 'A machine that reboots after a panic loses the memory that its sessions would be recovered from.' }
  const seconds = sysctl(machine, 'panic')
  if (seconds === undefined) return { ...about, severity: 'warn', seen: 'kernel.panic cannot be read', mend: 'Look at "sysctl kernel.panic"; it has to be 0.' }
  if (seconds === 0) return { ...about, severity: 'ok', seen: 'kernel.panic is 0: a panicked machine stays as it is' }
  const seen = seconds < 0 ? `kernel.panic is ${seconds}: it reboots at once` : `kernel.panic is ${seconds}: it reboots after ${seconds} s`
  return { ...about, severity: badOnVerbs(purpose), seen, mend: 'sysctl kernel.panic=0, and kernel.panic=0 in /etc/sysctl.d; no panic= on the kernel\'s command line.' }
}

export function checkCrashKernel(machine: Machine, purpose: Purpose): Finding {
  const about = { check: 'kdump', why: 'On a panic, kdump boots its own kernel, which resets the devices: peers can then read no more.' }
  const loaded = machine.readText('/sys/kernel/kexec_crash_loaded') === '1'
  const reserved = Number(machine.readText('/sys/kernel/kexec_crash_size') ?? 0) > 0 || /(^|\s)crashkernel=/.test(machine.readText('/proc/cmdline') ?? '')
  if (loaded) return { ...about, severity: badOnVerbs(purpose), seen: 'a crash kernel is loaded', mend: 'systemctl disable --now kdump (Debian: kdump-tools), or kexec -p -u.' }
  if (reserved) return { ...about, severity: 'warn', seen: 'memory is reserved for a crash kernel, which is not loaded', mend: 'Remove crashkernel= from the kernel\'s command line, so that nothing loads one.' }
  return { ...about, severity: 'ok', seen: 'no crash kernel is loaded or reserved' }
}

export function checkHardwareWatchdog(machine: Machine, purpose: Purpose): Finding {
  const about = { check: 'watchdog', why: 'A watchdog that is not fed, because the system hangs, resets the machine and its memory with it.' }
  const running = machine.list('/sys/class/watchdog').filter((name) => machine.readText(`/sys/class/watchdog/${name}/state`) === 'active')
  if (running.length > 0) {
    const mend = 'RuntimeWatchdogSec=off in /etc/systemd/system.conf, or stop the watchdog service; or give it much longer than a recovery takes.'
    return { ...about, severity: badOnVerbs(purpose), seen: `${running.map((name) => `/dev/${name}`).join(', ')} is running`, mend }
  }
  if (!machine.exists('/dev/watchdog')) return { ...about, severity: 'ok', seen: 'there is no watchdog device' }
  return { ...about, severity: 'warn', seen: '/dev/watchdog is there; it is not known to run', mend: 'See that nothing opens it: "wdctl", RuntimeWatchdogSec in /etc/systemd/system.conf.' }
}

/** Settings that turn a hang or an oops, which a node may survive, into a panic. */
const panicSettings = ['softlockup_panic', 'hardlockup_panic', 'hung_task_panic', 'panic_on_oops', 'panic_on_rcu_stall', 'unknown_nmi_panic'] as const

export function checkPanicSettings(machine: Machine): Finding {
  const about = { check: 'panic-settings', why: 'These turn a hang that is recovered or passes into a panic; with soft-RoCE, whose device is the kernel itself, that ends every read.' }
  const set = panicSettings.filter((name) => (sysctl(machine, name) ?? 0) > 0)
  if (set.length === 0) return { ...about, severity: 'ok', seen: 'a lockup or an oops is no panic' }
  const mend = `sysctl ${set.map((name) => `kernel.${name}=0`).join(' ')}, unless you want it so and kernel.panic is 0.`
  return { ...about, severity: 'warn', seen: set.map((name) => `kernel.${name} is ${sysctl(machine, name)}`).join(', '), mend }
}

export function checkNmiWatchdog(machine: Machine): Finding {
  const about = { check: 'nmi-watchdog', why: 'The NMI watchdog reports a processor that hangs; together with kernel.hardlockup_panic it ends the system.' }
  const on = sysctl(machine, 'nmi_watchdog') === 1
  const panics = (sysctl(machine, 'hardlockup_panic') ?? 0) > 0
  if (on && panics) return { ...about, severity: 'warn', seen: 'kernel.nmi_watchdog and kernel.hardlockup_panic are both set', mend: 'sysctl kernel.hardlockup_panic=0' }
  return { ...about, severity: 'ok', seen: on ? 'it is on, and only reports' : 'it is off' }
}
