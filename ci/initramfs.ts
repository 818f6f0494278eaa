/**
 * The guest's first root file system: busybox, the modules it needs to reach the host's files and to do RDMA, and two
 * scripts. The first mounts the host's root (read-only, with a layer of RAM above it for what the guest writes); the
 * second runs on it, sets the network and soft-RoCE up, and starts the agent.
 */

import { readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { cpioArchive, type CpioEntry } from './cpio.js'
import { PrerequisiteError } from './errors.js'
import { requireTools } from './host-tools.js'
import type { Kernel } from './kernel.js'

/**
 * `crc32_generic` is asked for by soft-RoCE through the crypto API by name, so no dependency shows it; without it
 * `rdma link add` fails with "failed to add eth0". The same goes for `crc32c_generic`.
 */
const wantedModules = [
  'virtio_pci', 'virtio_console', 'virtio_net', '9p', '9pnet_virtio', 'overlay',
  'crc32c_generic', 'crc32_generic', 'ib_uverbs', 'rdma_ucm', 'rdma_rxe',
]

/** What a NIC machine needs besides, to have another guest's RAM as a DAX device. */
const nicMachineModules = ['libnvdimm', 'nfit', 'nd_pmem', 'device_dax', 'dax_pmem']

const applets = ['sh', 'mount', 'mkdir', 'insmod', 'cat', 'cp', 'ln', 'ip', 'hostname', 'sleep', 'poweroff', 'switch_root']

/** Printed by the guest's kernel console as soon as user space runs; {@link ../accelerator} waits for it. */
export const userSpaceMarker = 'backdoors: user space runs'

/** Reads one `rig.KEY=` word of the kernel command line; values are percent-encoded so that any path survives. */
const readSetting = `setting() {
  for word in $(cat /proc/cmdline); do
    case $word in "rig.$1="*) word=\${word#*=}; printf '%b' "\${word//%/\\\\x}"; return;; esac
  done
}`

const firstScript = `#!/bin/sh
${readSetting}
give_up() { echo "backdoors: $1"; poweroff -f; }
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
echo "${userSpaceMarker}"
[ "$(setting probe)" = 1 ] && poweroff -f
for module in $(cat /modules/order); do insmod "/modules/$module" || give_up "cannot load $module"; done
[ "$(setting nic)" = 1 ] && for module in $(cat /modules/nic); do insmod "/modules/$module" || give_up "cannot load $module"; done
mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,ro,msize=524288 root /lower || give_up "cannot mount the host's root"
mount -t tmpfs -o size=75% upper /upper
mkdir /upper/data /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work overlay /root || give_up "cannot mount the overlay"
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
mkdir /dev/shm /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t devpts -o mode=620,ptmxmode=666 pts /dev/pts
mount -t tmpfs -o mode=755 run /root/run
mkdir /root/run/rig
cp /bin/busybox /second /root/run/rig/
for folder in proc sys dev; do mount --move "/$folder" "/root/$folder"; done
exec switch_root /root /run/rig/second
`

/**
 * Stays as process 1 and reaps what the agent's children leave behind. The agent starts first and soft-RoCE beside it,
 * because node takes about as long to start as all the rest. `panic` 0: a guest that panics stands still and keeps its
 * memory, as a machine that is to be recovered from must.
 */
const secondScript = `#!/run/rig/busybox sh
${readSetting.replaceAll('$(cat ', '$(/run/rig/busybox cat ')}
bb=/run/rig/busybox
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux LANG=C.UTF-8
cd /
echo 0 > /proc/sys/kernel/panic
$bb hostname "$(setting name)"
$bb ip link set lo up
$bb ip addr add "$(setting address)/24" dev eth0
$bb ip link set eth0 up
ulimit -l unlimited
"$(setting rdma)" link add rxe0 type rxe netdev eth0 || echo "backdoors: rdma link add failed" &
until [ -e /dev/vport*p1 ]; do $bb sleep 0.05; done
"$(setting node)" "$(setting agent)" /dev/vport*p1
echo "backdoors: the agent ended with $?"
$bb poweroff -f
`

/** The archive for `-initrd`, not compressed: unpacking under emulation would cost more than reading 4 MB. */
export async function buildInitramfs(kernel: Kernel): Promise<Buffer> {
  const { busybox } = await requireTools(['busybox'])
  const modules = await modulesInLoadOrder(kernel, wantedModules)
  const ofNicMachines = (await modulesInLoadOrder(kernel, nicMachineModules)).filter((path) => !modules.includes(path))
  const folders = ['bin', 'dev', 'proc', 'sys', 'lower', 'upper', 'root', 'modules']
  const entries: CpioEntry[] = folders.map((path) => ({ path, kind: 'folder' }))
  entries.push({ path: 'dev/console', kind: 'character-device', major: 5, minor: 1 })
  entries.push({ path: 'bin/busybox', kind: 'file', content: await staticBusybox(busybox), executable: true })
  for (const applet of applets) entries.push({ path: `bin/${applet}`, kind: 'link', target: 'busybox' })
  entries.push(text('init', firstScript), text('second', secondScript))
  entries.push(text('modules/order', lines(modules)), text('modules/nic', lines(ofNicMachines)))
  for (const path of [...modules, ...ofNicMachines]) {
    const content = await readFile(join(kernel.modulesPath, path))
    entries.push({ path: `modules/${basename(path)}`, kind: 'file', content, executable: false })
  }
  return cpioArchive(entries)
}

const lines = (paths: readonly string[]): string => `${paths.map((path) => basename(path)).join('\n')}\n`

function text(path: string, content: string): CpioEntry {
  return { path, kind: 'file', content: Buffer.from(content), executable: true }
}

async function staticBusybox(path: string): Promise<Buffer> {
  const content = await readFile(path)
  if (content.includes('/ld-linux')) {
    throw new PrerequisiteError(`${path} needs shared libraries, which a guest has not yet; run: apt-get install busybox-static`)
  }
  return content
}

/**
 * Paths of `names` and all they depend on, each after its dependencies. From `modules.dep` itself, because
 * `modprobe --show-depends` obeys the host's own `install` lines, which may hide a module.
 */
export async function modulesInLoadOrder(kernel: Kernel, names: readonly string[]): Promise<string[]> {
  const table = parseModulesDep(await readFile(join(kernel.modulesPath, 'modules.dep'), 'utf8'))
  const builtin = await readFile(join(kernel.modulesPath, 'modules.builtin'), 'utf8')
  const ordered = new Set<string>()
  for (const name of names) {
    if (builtin.includes(`/${name}.ko\n`)) continue
    const row = table.get(name)
    if (row === undefined) throw new PrerequisiteError(`kernel ${kernel.release} has no module ${name}`)
    for (const dependency of row.dependencies.toReversed()) ordered.add(dependency)
    ordered.add(row.path)
  }
  return [...ordered]
}

/** Lines of `path: dependency dependency …`, the deepest dependency last. */
export function parseModulesDep(content: string): Map<string, { path: string; dependencies: string[] }> {
  const table = new Map<string, { path: string; dependencies: string[] }>()
  for (const line of content.split('\n')) {
    const [path, rest] = line.split(':')
    if (path === undefined || rest === undefined) continue
    const dependencies = rest.split(' ').filter((word) => word !== '')
    table.set(basename(path).replace(/\.ko(\.\w+)?$/, ''), { path, dependencies })
  }
  return table
}
