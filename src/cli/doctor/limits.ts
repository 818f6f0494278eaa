/** Limits and capabilities of this process, as /proc shows them. */
import type { Machine } from './machine.js'

/** A limit of /proc/self/limits: Infinity for `unlimited`, undefined where it is not listed. */
export function softLimit(machine: Machine, name: string): number | undefined {
  const line = machine.readText('/proc/self/limits')?.split('\n').find((text) => text.startsWith(name))
  const soft = line?.slice(name.length).trim().split(/\s+/)[0]
  if (soft === undefined) return undefined
  return soft === 'unlimited' ? Infinity : Number(soft)
}

/** Numbers of capabilities (`linux/capability.h`). */
export const capabilities = { netAdmin: 12, ipcLock: 14, sysNice: 23 } as const

export function hasCapability(machine: Machine, capability: number): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(machine.readText('/proc/self/status') ?? '')?.[1]
  return effective !== undefined && ((BigInt(`0x${effective}`) >> BigInt(capability)) & 1n) === 1n
}
