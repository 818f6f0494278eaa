/** Limits and capabilities of this process, as /proc shows them. */
import { hasCapability as statusHas, type Capability } from '../../native/capabilities.js'
import type { Machine } from './machine.js'

/** A limit of /proc/self/limits: Infinity for `unlimited`, undefined where it is not listed. */
export function softLimit(machine: Machine, name: string): number | undefined {
  const line = machine.readText('/proc/self/limits')?.split('\n').find((text) => text.startsWith(name))
  const soft = line?.slice(name.length).trim().split(/\s+/)[0]
  if (soft === undefined) return undefined
  return soft === 'unlimited' ? Infinity : Number(soft)
}

export const hasCapability = (machine: Machine, capability: Capability): boolean => statusHas(machine.readText('/proc/self/status') ?? '', capability)
