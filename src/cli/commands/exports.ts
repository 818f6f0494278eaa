/** `backdoors core` and `backdoors vmcore`: files for debuggers, out of the memory of a kernel that may be dead. */
import type { Command } from 'commander'
import { resolve } from 'node:path'
import { BackdoorsError } from '../../errors.js'
import type { ProcessCoreResult } from '../../kernel/exports/process-core.js'
import type { VmcoreResult } from '../../kernel/exports/vmcore.js'
import { addKernelOptions, costLine, faultsOf, kernelHelp, nodeOf, pidOf, warn, withKernel, type Cost, type KernelMemoryOptions, type OpenKernel } from '../kernel-memory.js'
import type { Output } from '../output.js'
import { formatBytes } from '../quantities.js'

const secrets = `An export that was interrupted goes on where it stopped when it is asked for again. Pages of zeros take no room.
The file holds whatever secrets the memory held; nobody else may read it (mode 0600). Until it is whole it is called FILE.part.`

const coreHelp = `
Examples:
  backdoors core b 174 -o node.core --config /etc/backdoors.yaml
  backdoors core --memory ram.img 175 -o stack.core && gdb -batch -ex 'info threads' -ex bt ./stack stack.core

${secrets}
${kernelHelp}`

const vmcoreHelp = `
Examples:
  backdoors vmcore b -o b.vmcore --config /etc/backdoors.yaml && makedumpfile --dump-dmesg b.vmcore b.log
  backdoors vmcore --memory /dev/dax0.0 -o b.vmcore
  backdoors inspect --memory b.vmcore ps

${secrets}
${kernelHelp}`

interface ExportOptions extends KernelMemoryOptions {
  readonly output: string
}

export function registerExports(program: Command, output: Output): void {
  const command = (name: string, words: string, usage: string): Command =>
    addKernelOptions(program.command(name).argument('[words...]', words).usage(`[options] NODE${usage} -o FILE\n       backdoors ${name} [options] --memory FILE${usage} -o FILE`)).requiredOption('-o, --output <file>', 'what to write')
  command('core', 'NODE and PID', ' PID')
    .description('a core file of a process, for gdb')
    .addHelpText('after', coreHelp)
    .action((words: string[], options: ExportOptions) => exportCore(words, options, output))
  command('vmcore', 'NODE', '')
    .description('all RAM of a machine as a vmcore, for crash and makedumpfile')
    .addHelpText('after', vmcoreHelp)
    .action((words: string[], options: ExportOptions) => exportVmcore(words, options, output))
}

async function exportCore(words: readonly string[], options: ExportOptions, output: Output): Promise<void> {
  const { node, rest } = nodeOf(words, options)
  const [pid, ...more] = rest
  if (pid === undefined) throw new BackdoorsError('INVALID_ARGUMENT', 'A core of which process? Give its PID.', { field: 'pid' })
  refuseMore(more)
  const { writeProcessCore } = await import('../../kernel/exports/process-core.js')
  const number = pidOf(pid)
  await withKernel(node, options, output, async (kernel) => {
    const { result, cost } = await kernel.measure(() => writeProcessCore({ image: kernel.image, pid: number, path: resolve(options.output), onProgress: ({ done, total }) => kernel.progress.show('copying', done, total) }))
    report({ node, pid: number }, result, describeCore(number, result), { options, cost, kernel, output })
  })
}

async function exportVmcore(words: readonly string[], options: ExportOptions, output: Output): Promise<void> {
  const { node, rest } = nodeOf(words, options)
  refuseMore(rest)
  const { writeVmcore } = await import('../../kernel/exports/vmcore.js')
  await withKernel(node, options, output, async (kernel) => {
    const { result, cost } = await kernel.measure(() => writeVmcore({ image: kernel.image, path: resolve(options.output), onProgress: ({ done, total }) => kernel.progress.show('copying', done, total) }))
    report({ node }, result, describeVmcore(result, cost), { options, cost, kernel, output })
  })
}

function refuseMore([word]: readonly string[]): void {
  if (word !== undefined) throw new BackdoorsError('INVALID_ARGUMENT', `${JSON.stringify(word)} is too much. With --memory there is no NODE.`, { field: 'node' })
}

interface Around {
  readonly options: ExportOptions
  readonly cost: Cost
  readonly kernel: OpenKernel
  readonly output: Output
}

function report(of: Record<string, unknown>, { faults, ...result }: ProcessCoreResult | VmcoreResult, text: string, { options, cost, kernel, output }: Around): void {
  kernel.progress.end()
  const source = options.memory === undefined ? {} : { memory: options.memory }
  if (options.json) output.json({ ...of, ...source, release: kernel.image.note.osRelease, ...result, faults: faultsOf(faults), cost: { ...cost, learning: kernel.learning } })
  else output.line(text)
  warn(faults, output)
  output.note(costLine(cost, kernel.learning))
}

const resumedText = (bytes: number): string => (bytes === 0 ? '' : `, of them ${formatBytes(bytes)} by an export before`)

function describeCore(pid: number, { path, fileBytes, memoryBytes, resumedBytes, writtenBytes, missingBytes, threads }: ProcessCoreResult): string {
  const without = threads.filter(({ hasRegisters }) => !hasRegisters).length
  const registers = without === 0 ? '' : `, ${without} of them without registers`
  const missing = missingBytes === 0 ? '' : `; ${formatBytes(missingBytes)} of its memory are not there`
  return `${path}: process ${pid}, ${threads.length} threads${registers}; ${formatBytes(fileBytes)}, ${formatBytes(memoryBytes)} of memory${resumedText(resumedBytes)}, ${formatBytes(writtenBytes)} written${missing}`
}

function describeVmcore({ path, ramBytes, resumedBytes, writtenBytes, cpus }: VmcoreResult, { ms }: Cost): string {
  const rate = ms > 0 ? `, ${formatBytes(Math.round(((ramBytes - resumedBytes) / ms) * 1000))}/s` : ''
  return `${path}: ${formatBytes(ramBytes)} of RAM${resumedText(resumedBytes)}, ${cpus} CPUs; ${formatBytes(writtenBytes)} written${rate}`
}
