/** `backdoors inspect NODE VIEW`: what stands in the memory of a kernel that may be dead. */
import type { Command } from 'commander'
import { BackdoorsError } from '../../errors.js'
import type { KernelImage } from '../../kernel/kernel-image.js'
import { exitCodes } from '../exit-codes.js'
import type { Answer, ViewOptions } from '../inspect/view.js'
import { addKernelOptions, costLine, faultsOf, kernelHelp, nodeOf, pidOf, warn, withKernel, type KernelMemoryOptions } from '../kernel-memory.js'
import type { Output } from '../output.js'

type ReadView = (image: KernelImage, options: ViewOptions) => Promise<Answer>

/** Each is imported when it is run. */
const views: Readonly<Record<string, { readonly about: string; readonly load: () => Promise<ReadView> }>> = {
  log: { about: 'the kernel\'s log, as dmesg prints it', load: async () => (await import('../inspect/log.js')).inspectLog },
  ps: { about: 'processes, as ps prints them; START is seconds after boot', load: async () => (await import('../inspect/ps.js')).inspectTasks },
  cpus: { about: 'uptime and load, the CPUs and what each of them ran', load: async () => (await import('../inspect/cpus.js')).inspectCpus },
  sockets: { about: 'TCP and UDP, as ss prints them', load: async () => (await import('../inspect/sockets.js')).inspectSockets },
  maps: { about: 'PID: the mappings of a process, as /proc/PID/maps has them', load: async () => (await import('../inspect/maps.js')).inspectMaps },
  mem: { about: 'what memory was used for, as free and /proc/meminfo say it', load: async () => (await import('../inspect/mem.js')).inspectMemory },
  panic: { about: 'why it panicked, where, in which task, and its last words', load: async () => (await import('../inspect/panic.js')).inspectPanic },
}

const names = Object.keys(views)

const help = `
Views:
${names.map((name) => `  ${name.padEnd(9)}${views[name]?.about}`).join('\n')}

Examples:
  backdoors inspect b panic --config /etc/backdoors.yaml
  backdoors inspect b ps --threads --stacks --config /etc/backdoors.yaml
  backdoors inspect b maps 174 --region /dev/shm/backdoors-a --json
  backdoors inspect --memory ram.img log
  backdoors inspect --memory /dev/dax0.0 --map 0x0:0x80000000:0x0,0x100000000:0x80000000:0x80000000 sockets -p
${kernelHelp}`

interface InspectOptions extends KernelMemoryOptions, ViewOptions {}

export function registerInspect(program: Command, output: Output): void {
  addKernelOptions(program.command('inspect').argument('[words...]', 'NODE and a view; of maps, a PID').usage('[options] NODE VIEW [PID]\n       backdoors inspect [options] --memory FILE VIEW [PID]'))
    .description("look into a kernel's memory, dead or alive")
    .option('--threads', 'ps: all threads')
    .option('--stacks', 'ps: kernel stacks, too')
    .option('-p, --processes', 'sockets: which processes have them open')
    .addHelpText('after', help)
    .action((words: string[], options: InspectOptions) => inspect(words, options, output))
}

const loadView = (name: string): Promise<ReadView> => (views[name] as (typeof views)[string]).load()

/** @throws BackdoorsError INVALID_ARGUMENT, and what opening and reading throw */
async function inspect(words: readonly string[], options: InspectOptions, output: Output): Promise<void> {
  const { node, rest } = nodeOf(words, options)
  const { view, pid } = viewOf(rest, node, options)
  const read = await loadView(view)
  await withKernel(node, options, output, async ({ image, learning, measure }) => {
    const { result: answer, cost } = await measure(() => read(image, { ...options, ...(pid === undefined ? {} : { pid }) }))
    const { fields, lines, faults, isEmpty } = answer
    const source = node === undefined ? { memory: options.memory } : { node }
    if (options.json) output.json({ ...source, view, release: image.note.osRelease, ...fields(), faults: faultsOf(faults), cost: { ...cost, learning } })
    else for (const line of lines()) output.line(line)
    warn(faults, output)
    output.note(costLine(cost, learning))
    if (isEmpty) output.exitCode = exitCodes.failed
  })
}

/** @throws BackdoorsError INVALID_ARGUMENT that says which words are missing, unknown or too many */
function viewOf([view, pid, ...more]: readonly string[], node: string | undefined, options: InspectOptions): { view: string; pid: number | undefined } {
  const refuse = (why: string): BackdoorsError => new BackdoorsError('INVALID_ARGUMENT', why, { field: 'view' })
  const list = names.join(', ')
  if (view === undefined && node !== undefined && names.includes(node)) throw refuse(`Whose ${node}? Give a NODE before it, or --memory FILE.`)
  if (view === undefined) throw refuse(`Which view? One of ${list}.`)
  if (!names.includes(view)) {
    const isNode = node === undefined && pid !== undefined && names.includes(pid)
    throw refuse(isNode ? `With --memory there is no NODE: leave ${JSON.stringify(view)} out.` : `${JSON.stringify(view)} is no view: ${list}.`)
  }
  if (view === 'maps' && pid === undefined) throw refuse('Whose mappings? Give a PID behind maps.')
  if (more.length > 0 || (view !== 'maps' && pid !== undefined)) throw refuse(`${JSON.stringify(more[0] ?? pid)} is too much: ${view}${view === 'maps' ? ' PID' : ''} is all there is to say.`)
  const misplaced = ([['threads', 'ps'], ['stacks', 'ps'], ['processes', 'sockets']] as const).find(([option, of]) => options[option] && view !== of)
  if (misplaced) throw refuse(`--${misplaced[0]} belongs to ${misplaced[1]}.`)
  return { view, pid: pid === undefined ? undefined : pidOf(pid) }
}
