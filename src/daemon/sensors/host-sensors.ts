/** What the daemon measures of its machine. What this kernel does not tell is left out. */
import type { SensorsConfig } from '../watching/detector-config.js'
import type { Measure } from './measure.js'
import type { ProcFiles } from './proc-files.js'
import { fileTable, load, memoryUse, stallPercent } from './proc-texts.js'

type Limits = SensorsConfig['limits']

/** @param cpus how many CPUs the machine has */
export function measureHost(files: ProcFiles, limits: Limits, cpus: number): Measure[] {
  const measures: Measure[] = []
  const memory = memoryUse(files.text('meminfo') ?? '')
  if (memory) measures.push({ name: 'mem-used-bytes', kind: 'level', value: memory.used, limit: memory.total * limits.memory })
  const table = fileTable(files.text('sys/fs/file-nr') ?? '')
  if (table) measures.push({ name: 'open-files', kind: 'level', value: table.open, limit: table.most * limits.openFiles })
  const tasks = load(files.text('loadavg') ?? '')
  if (tasks) {
    measures.push({ name: 'runnable-tasks', kind: 'pressure', value: tasks.runnable, limit: cpus * limits.runnablePerCpu })
    measures.push({ name: 'load-1min-tasks', kind: 'pressure', value: tasks.minute, limit: cpus * limits.loadPerCpu })
  }
  const stalls = [
    { name: 'cpu-stall-pct', file: 'cpu', limit: limits.cpuStallPercent },
    { name: 'mem-stall-pct', file: 'memory', limit: limits.memoryStallPercent },
    { name: 'io-stall-pct', file: 'io', limit: limits.ioStallPercent },
  ]
  for (const { name, file, limit } of stalls) {
    const value = stallPercent(files.text(`pressure/${file}`) ?? '')
    if (value !== undefined) measures.push({ name, kind: 'pressure', value, limit })
  }
  return measures
}
