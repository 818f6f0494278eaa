/** `inspect NODE sockets`: as `ss -tuan` prints them, and with `--processes` as `ss -tuanp`. */
import type { KernelImage } from '../../kernel/kernel-image.js'
import { readSockets, socketEndpoints, type Socket } from '../../kernel/views/sockets.js'
import { columns, number, word } from './text.js'
import { count, type Answer, type ViewOptions } from './view.js'

export async function inspectSockets(image: KernelImage, { processes = false }: ViewOptions): Promise<Answer> {
  const { sockets, faults } = await readSockets(image, { owners: processes })
  const head = [word('Netid'), word('State'), number('Recv-Q'), number('Send-Q'), number('Local Address:Port'), number('Peer Address:Port'), ...(processes ? [word('Process')] : [])]
  const isEmpty = sockets.length === 0 && faults.length > 0
  return { lines: () => columns(head, sockets.map(rowOf)), fields: () => ({ sockets: sockets.map(fieldsOf) }), faults, isEmpty }
}

function rowOf(socket: Socket): (string | number | undefined)[] {
  const { protocol, state, receiveQueue, sendQueue, owners } = socket
  return [protocol, state, receiveQueue, sendQueue, ...socketEndpoints(socket), ...(owners ? [ownersText(owners)] : [])]
}

function ownersText(owners: NonNullable<Socket['owners']>): string {
  return owners.length === 0 ? '' : `users:(${owners.map(({ comm, pid, fd }) => `("${comm}",pid=${pid},fd=${fd})`).join(',')})`
}

const fieldsOf = ({ inode, ...socket }: Socket): Record<string, unknown> => ({ ...socket, inode: count(inode) })
