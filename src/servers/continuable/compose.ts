/** Puts the record of a connection together, in the scratch, behind the literal that is there already. */
import type { ResetReason } from '../../recovery/tcp/connection.js'
import type { Connection } from './connection.js'
import { encodeHeader, recordFlags, recordHeaderBytes, type RecordFields } from './record.js'
import type { Scratch } from './scratch.js'

/**
 * @param literal bytes that stand behind the place for the header
 * @returns the record's length
 */
export function composeRecord(connection: Connection, scratch: Scratch, literal: number, reason: ResetReason | undefined): number {
  const { input, output, preamble, state, gate } = connection
  // While a response is made anew, the record says what was decided of it, not how far the new one has come.
  const fields = gate === undefined ? currentFields(connection) : gate.expected
  const head = gate === undefined ? output.head : gate.head
  fields.broken = reason
  fields.inputAt = input.start
  const [first] = input.requests
  fields.request = first === undefined ? input.next : first.number
  if (reason !== undefined) {
    encodeHeader(scratch.words, { ...fields, protocol: 'raw', flags: 0 }, 0, 0, 0, 0, 0)
    return recordHeaderBytes
  }
  const preambleBytes = preamble === undefined ? 0 : preamble.length
  const headBytes = head === undefined ? 0 : head.length
  const stateBytes = state === undefined ? 0 : state.length
  let at = recordHeaderBytes + literal
  scratch.reserve(at + preambleBytes + input.length + headBytes + stateBytes, at)
  const { bytes } = scratch
  if (preamble !== undefined) bytes.set(preamble, at)
  at += preambleBytes
  at += input.copy(bytes, at)
  if (head !== undefined) bytes.set(head, at)
  at += headBytes
  if (state !== undefined) bytes.set(state, at)
  encodeHeader(scratch.words, fields, literal, preambleBytes, input.length, headBytes, stateBytes)
  return at + stateBytes
}

/** As they are to be compared with, should they have to be made anew. */
function currentFields({ fields, output, state }: Connection): RecordFields {
  const complete = fields.protocol === 'http' && output.head !== undefined && output.complete
  fields.flags = (complete ? recordFlags.complete : 0) | (output.checkpointed ? recordFlags.checkpointed : 0) | (state === undefined ? 0 : recordFlags.hasState)
  fields.outputAt = output.start
  fields.outputEnd = output.end
  fields.contentBefore = output.contentBefore
  fields.crc32c = output.digest.first
  fields.crc32 = output.digest.second
  return fields
}
