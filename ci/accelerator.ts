/**
 * Which accelerator QEMU uses. KVM is ten times faster where it works, but there are machines whose `/dev/kvm` opens and
 * then never runs a kernel; so `auto` lets KVM boot one before it trusts it.
 */

import { constants } from 'node:fs'
import { access, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { userSpaceMarker } from './initramfs.js'
import { QemuProcess, type Accelerator } from './qemu.js'

export type AcceleratorChoice = 'auto' | Accelerator

export interface BootFiles {
  readonly kernelPath: string
  readonly initramfsPath: string
  readonly runPath: string
}

/** A kernel under working KVM reaches user space in about a second. */
const kvmPatienceMs = 8_000

export async function chooseAccelerator(choice: AcceleratorChoice, files: BootFiles, log: (line: string) => void): Promise<Accelerator> {
  if (choice !== 'auto') return choice
  const mayUse = await access('/dev/kvm', constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  )
  if (mayUse && (await bootsKernel('kvm', files, kvmPatienceMs))) return 'kvm'
  log(mayUse ? 'KVM does not boot a kernel here; emulating' : 'no /dev/kvm for this user; emulating')
  return 'tcg'
}

/** Whether a kernel reaches user space within `patienceMs`. Its console stays in the run's folder. */
export async function bootsKernel(accelerator: Accelerator, files: BootFiles, patienceMs: number): Promise<boolean> {
  const consolePath = join(files.runPath, `probe-${accelerator}.console.log`)
  const qemu = await QemuProcess.start({ ...files, accelerator, consolePath, memoryMiB: 256, cpus: 1, settings: { probe: '1' } })
  await Promise.race([qemu.exited, sleep(patienceMs, undefined, { ref: false })])
  await qemu.kill()
  return (await readFile(consolePath, 'utf8').catch(() => '')).includes(userSpaceMarker)
}
