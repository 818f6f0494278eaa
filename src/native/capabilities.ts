/** Capabilities of this process (`capabilities(7)`), as /proc shows them. */
import { readFileSync } from 'node:fs'

/** Numbers of `linux/capability.h`. */
export const capabilities = { netAdmin: 12, netRaw: 13, ipcLock: 14, sysNice: 23 } as const

export type Capability = keyof typeof capabilities

/** To change addresses of interfaces, and to send frames. */
export const neededForAddresses: readonly Capability[] = ['netAdmin', 'netRaw']

/** @param status the text of /proc/self/status */
export function hasCapability(status: string, capability: Capability): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1]
  return effective !== undefined && ((BigInt(`0x${effective}`) >> BigInt(capabilities[capability])) & 1n) === 1n
}

/** Those of `wanted` that this process has not. */
export function missingCapabilities(wanted: readonly Capability[]): Capability[] {
  const status = readFileSync('/proc/self/status', 'utf8')
  return wanted.filter((capability) => !hasCapability(status, capability))
}

/** As the kernel's documentation writes it: `CAP_NET_ADMIN`. */
export const capabilityName = (capability: Capability): string => `CAP_${capability.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`
