/**
 * An address keeper in a process of its own, so that a test can put it into a network namespace: one command a line on standard
 * input, one answer a line on standard output. Repeats wait for the command `repeat`.
 */
import { createInterface } from 'node:readline'
import { BackdoorsError } from '../../../errors.js'
import { networkAddon } from '../../../native/load.js'
import { AddressKeeper, type VirtualAddress } from '../address-keeper.js'
import { probeAddresses } from '../address-probe.js'
import { parseInterfaceAddress, type InterfaceAddress } from '../interface-address.js'

const written = JSON.parse(process.argv[2] as string) as { node: string; address: string; interface: string }[]
const addresses: VirtualAddress[] = written.map((each) => ({ ...each, failback: true, address: parseInterfaceAddress(each.address) as InterfaceAddress }))
const waiting = new Set<() => void>()
const trouble: unknown[] = []
const keeper = new AddressKeeper({
  addresses, network: networkAddon(), isRouter: () => false,
  later: (_, run) => {
    waiting.add(run)
    return () => waiting.delete(run)
  },
  onTrouble: (_, error) => trouble.push(error),
})

const texts = (some: readonly VirtualAddress[]): string[] => some.map(({ address }) => address.text)

const probe = async (node: string): Promise<unknown> => {
  const wanted = addresses.filter((each) => each.node === node).map((each) => ({ ...each, bytes: each.address.bytes }))
  const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
  const answers = await probeAddresses({ addresses: wanted, network: networkAddon(), pause, onTrouble: (name, error) => trouble.push({ name, error }) })
  return answers.map(({ address, hardware }) => [address.address.text, hardware])
}

function answer(command: string): unknown {
  const [verb, node = ''] = command.split(' ')
  if (verb === 'take') return texts(keeper.take(node))
  if (verb === 'release') return texts(keeper.release(node))
  if (verb === 'release-all') return texts(keeper.releaseAll())
  if (verb === 'close') return keeper.close()
  if (verb === 'probe') return probe(node)
  if (verb === 'trouble') return trouble
  const [run] = waiting
  if (run) waiting.delete(run)
  run?.()
  return waiting.size
}

async function answerLine(command: string): Promise<void> {
  try {
    process.stdout.write(`${JSON.stringify({ answer: await answer(command) })}\n`)
  } catch (error) {
    process.stdout.write(`${JSON.stringify({ error: error instanceof BackdoorsError ? error : String(error) })}\n`)
  }
}

createInterface({ input: process.stdin }).on('line', (command) => void answerLine(command))
