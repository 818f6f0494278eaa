/** What tasks that sleep were doing in the kernel: their stacks, unwound. */
import { BackdoorsError } from '../../errors.js'
import type { KernelImage } from '../kernel-image.js'
import { KernelObject, Selection } from '../kernel-object.js'
import { OrcTables, type OrcEntry, type OrcRegister } from '../orc.js'

export interface StackFrame {
  /** Where the call returns to, or where an interrupt came. */
  readonly address: bigint
  /** `symbol+0x24/0x50` as the kernel prints it; the bare address where no symbol is known (modules). */
  readonly text: string
}

export interface KernelStack {
  /** The innermost first. */
  readonly frames: readonly StackFrame[]
  /** Why there are no more, where they did not end as a stack does: at the entry from user space, or where a thread began. */
  readonly cutShort: string | undefined
}

const mostFrames = 128
/** `THREAD_SIZE`: of kernels with KASAN twice that. */
const stackBytes = 16 << 10

/** Where the unwinding of one stack has got to. */
class Unwinding {
  readonly frames: { readonly address: bigint; readonly isInterrupted: boolean }[] = []
  end: { readonly reason: string | undefined } | undefined
  /** Address of the saved registers (`struct pt_regs`) that belong to the present frame, where all of them were saved. */
  #registers: bigint | undefined

  constructor(
    readonly stack: { readonly start: bigint; readonly bytes: Uint8Array },
    readonly layout: RegisterLayout,
    public ip: bigint, public sp: bigint, public bp: bigint, public isInterrupted: boolean,
  ) {
    this.frames.push({ address: ip, isInterrupted })
  }

  /** The instruction to look up: a call may be the last one of its function, so that its return address is another's. */
  get instruction(): bigint {
    return this.isInterrupted ? this.ip : this.ip - 1n
  }

  stop(reason: string | undefined): void {
    this.end = { reason }
  }

  /** Goes on to the caller, as `unwind_next_frame` does. */
  step(orc: OrcEntry | undefined): void {
    if (orc === undefined) return this.stop(`nothing tells how to unwind 0x${this.ip.toString(16)}: it is not in the kernel's own text, or the tables are damaged`)
    if (orc.type === 'end') return this.stop(undefined)
    const top = this.#topOf(orc)
    if (orc.type === 'undefined' || top === undefined) return this.stop(`the frame of 0x${this.ip.toString(16)} cannot be found`)
    const before = this.sp
    const isUser = orc.type === 'call' ? this.#follow(top - 8n, top) : this.#interrupted(top, orc.type)
    if (isUser === undefined || this.end) return this.stop('the stack ends within a frame')
    if (isUser) return this.stop(undefined)
    const bp = this.#callersBp(orc, top)
    if (bp === undefined) return this.stop('the frame pointer lies outside the stack')
    this.bp = bp
    if (this.sp <= before) return this.stop('a frame lies below the one before it')
    this.frames.push({ address: this.ip, isInterrupted: this.isInterrupted })
    if (this.frames.length >= mostFrames) this.stop(`there are more than ${mostFrames} frames`)
  }

  /** @returns undefined outside the stack */
  #word(address: bigint): bigint | undefined {
    const { start, bytes } = this.stack
    const at = address - start
    if (at < 0n || at > BigInt(bytes.length - 8)) return undefined
    return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getBigUint64(Number(at), true)
  }

  #topOf({ spRegister, spOffset }: OrcEntry): bigint | undefined {
    if (spRegister === 'bp indirect') return this.#word(BigInt.asUintN(64, this.bp + spOffset))
    if (spRegister === 'sp indirect') {
      const word = this.#word(this.sp)
      return word === undefined ? undefined : BigInt.asUintN(64, word + spOffset)
    }
    const value = this.#valueOf(spRegister)
    return value === undefined ? undefined : BigInt.asUintN(64, value + spOffset)
  }

  #valueOf(register: OrcRegister): bigint | undefined {
    if (register === 'sp') return this.sp
    if (register === 'bp') return this.bp
    const offset = this.layout.saved.get(register)
    return offset === undefined || this.#registers === undefined ? undefined : this.#word(this.#registers + offset)
  }

  /** @returns false, or undefined where the return address is not in the stack */
  #follow(returnAt: bigint, top: bigint): boolean | undefined {
    const ip = this.#word(returnAt)
    if (ip === undefined) return undefined
    Object.assign(this, { ip, sp: top, isInterrupted: false })
    this.#registers = undefined
    return false
  }

  /** @returns whether user space was interrupted; undefined where the registers are not in the stack */
  #interrupted(top: bigint, type: 'registers' | 'some registers'): boolean | undefined {
    const { layout } = this
    // Without the others, only what the processor itself saved stands there: from `ip` on.
    const registers = type === 'registers' ? top : BigInt.asUintN(64, top - layout.ip)
    const [ip, sp, cs] = [this.#word(registers + layout.ip), this.#word(registers + layout.sp), this.#word(registers + layout.cs)]
    if (ip === undefined || sp === undefined || cs === undefined) return undefined
    if ((cs & 3n) === 3n) return true
    Object.assign(this, { ip, sp, isInterrupted: true })
    this.#registers = type === 'registers' ? registers : undefined
    return false
  }

  #callersBp({ bpRegister, bpOffset }: OrcEntry, top: bigint): bigint | undefined {
    if (bpRegister === 'previous sp') return this.#word(BigInt.asUintN(64, top + bpOffset))
    if (bpRegister === 'bp') return this.#word(BigInt.asUintN(64, this.bp + bpOffset))
    return this.#registers === undefined ? this.bp : this.#word(this.#registers + this.layout.bp)
  }
}

interface RegisterLayout {
  readonly ip: bigint
  readonly sp: bigint
  readonly bp: bigint
  readonly cs: bigint
  readonly saved: ReadonlyMap<OrcRegister, bigint>
}

/**
 * The kernel stack of a task. Of one that runs there is none to be read: its registers are in its CPU.
 * @param task `readTasks` gives it: only its address is needed
 * @throws BackdoorsError KERNEL_UNSUPPORTED where this kernel has no ORC tables, NOT_MAPPED where there is no such task, and what reading throws
 */
export async function unwindTask(image: KernelImage, task: { readonly address: bigint }): Promise<KernelStack> {
  const [stack] = await unwindTasks(image, [task])
  if (stack instanceof BackdoorsError) throw stack
  return stack as KernelStack
}

/** Many stacks at once, for as many batches as the deepest needs. @throws BackdoorsError KERNEL_UNSUPPORTED, and what reading throws */
export async function unwindTasks(image: KernelImage, tasks: readonly { readonly address: bigint }[]): Promise<(KernelStack | BackdoorsError)[]> {
  const tables = new OrcTables(image)
  const begun = await begin(image, tasks.map(({ address }) => address))
  const under = begun.filter((one) => one instanceof Unwinding)
  for (;;) {
    const open = under.filter(({ end }) => end === undefined)
    if (open.length === 0) break
    const entries = await tables.find(open.map(({ instruction }) => instruction))
    for (const [i, unwinding] of open.entries()) unwinding.step(entries[i])
  }
  return begun.map((one) => (one instanceof Unwinding ? { frames: one.frames.map(({ address, isInterrupted }) => frameOf(image, address, isInterrupted)), cutShort: one.end?.reason } : one))
}

/** Reads the stacks from where the tasks were switched away from: two batches. */
async function begin(image: KernelImage, addresses: readonly bigint[]): Promise<(Unwinding | KernelStack | BackdoorsError)[]> {
  const { types } = image
  const layout = layoutOf(image)
  const frame = new Selection(types, 'inactive_task_frame', ['bp', 'ret_addr'])
  const frameBytes = types.sizeOf(types.find('inactive_task_frame')?.id ?? 0)
  const forked = image.symbols.find('ret_from_fork_asm')?.address ?? image.symbols.find('ret_from_fork')?.address
  const tasks = await image.readObjects(new Selection(types, 'task_struct', ['thread.sp', 'stack', 'on_cpu']), addresses)
  const places = tasks.map((task) => (task instanceof KernelObject ? stackOf(task) : undefined))
  const read = await image.memory.tryReadMany(places.flatMap((place) => place ?? []))
  let next = 0
  return tasks.map((task, i) => {
    if (!(task instanceof KernelObject)) return task
    const place = places[i]
    if (place === undefined) return { frames: [], cutShort: task.number('on_cpu') === 0 ? 'its stack pointer does not point into its stack' : 'it runs: its registers are in its CPU' }
    const bytes = read[next++] as Uint8Array | BackdoorsError
    if (!(bytes instanceof Uint8Array) || bytes.length < frameBytes) return { frames: [], cutShort: 'its stack cannot be read' }
    const saved = KernelObject.of(frame, place.address, bytes)
    const ip = saved.unsigned('ret_addr')
    return new Unwinding({ start: place.address, bytes }, layout, ip, place.address + BigInt(frameBytes), saved.unsigned('bp'), ip === forked)
  })
}

/** From the stack pointer of a task that does not run to the stack's end. */
function stackOf(task: KernelObject): { address: bigint; length: number } | undefined {
  const [sp, stack] = [task.unsigned('thread.sp'), task.pointer('stack')]
  const used = sp - stack
  if (task.number('on_cpu') !== 0 || sp % 8n !== 0n || used < 0n || used >= BigInt(2 * stackBytes)) return undefined
  return { address: sp, length: (used < BigInt(stackBytes) ? stackBytes : 2 * stackBytes) - Number(used) }
}

/** @throws BackdoorsError KERNEL_UNSUPPORTED */
function layoutOf({ types }: KernelImage): RegisterLayout {
  const selection = new Selection(types, 'pt_regs', ['ip', 'sp', 'bp', 'cs', 'dx', 'di', 'r10', 'r13'])
  const offset = (path: string): bigint => BigInt(selection.offsetOf(path))
  return { ip: offset('ip'), sp: offset('sp'), bp: offset('bp'), cs: offset('cs'), saved: new Map((['dx', 'di', 'r10', 'r13'] as const).map((name) => [name, offset(name)])) }
}

/** As the kernel's `%pB` prints it: the call belongs to the function that it stands in, even as its last instruction. */
function frameOf(image: KernelImage, address: bigint, isInterrupted: boolean): StackFrame {
  const bare = `0x${address.toString(16)}`
  const [start, end] = [image.symbols.find('_stext')?.address ?? 0n, image.symbols.find('_etext')?.address ?? 0n]
  const before = isInterrupted ? 0n : 1n
  const found = address - before >= start && address - before < end ? image.symbols.nearest(address - before) : undefined
  if (found === undefined) return { address, text: bare }
  const length = found.bytes === undefined ? '' : `/0x${found.bytes.toString(16)}`
  return { address, text: `${found.symbol.name}+0x${(found.offset + before).toString(16)}${length}` }
}
