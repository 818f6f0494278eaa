/** The server's part of the exchange: `hello` in, `welcome` or `refused` out. */
import type { TLSSocket } from 'node:tls'
import { asBackdoorsError, BackdoorsError } from '../../errors.js'
import { encodeFrame } from './framing.js'
import type { FrameDecoder } from './framing.js'
import { receiveFrame, unlessAborted } from './handshake-io.js'
import { answerSchema, helloSchema, helloVersionSchema, maxTextLength, protocolVersion, readMessage, toWire } from './messages.js'
import type { AnswerMessage, Hello, HelloMessage, Refusal, Welcome } from './messages.js'

export interface WelcomePeerOptions {
  readonly socket: TLSSocket
  readonly decoder: FrameDecoder
  /** From the peer's certificate. */
  readonly peer: string
  /** This node. */
  readonly node: string
  readonly cluster: string
  /** Aborted when the handshake's time is up or its connection gone. */
  readonly signal: AbortSignal
  readonly lend: (hello: Hello) => Promise<Welcome>
}

/**
 * Resolves once the peer has been sent its welcome.
 * @throws BackdoorsError what the peer was refused for, after telling it; PROTOCOL_ERROR and MESSAGE_TOO_LARGE
 *   without telling; the signal's reason.
 */
export async function welcomePeer(options: WelcomePeerOptions): Promise<void> {
  const { socket, decoder, peer, node, signal } = options
  try {
    const hello = judgeHello(await receiveFrame(socket, decoder, signal), options)
    const welcome = await unlessAborted(lend(options, hello), signal)
    send(socket, { type: 'welcome', node, ...welcome })
  } catch (error) {
    if (!(error instanceof Refused)) throw error
    send(socket, { type: 'refused', code: error.refusal, message: error.reason.message.slice(0, maxTextLength) })
    // Its bytes have to leave before the connection is cut.
    await unlessAborted(new Promise<void>((resolve) => socket.end(() => resolve())), signal)
    throw new BackdoorsError(error.reason.code, error.reason.message, { ...error.reason.details, peer, cause: error.reason })
  }
}

/** A refusal that the peer is told about. */
class Refused extends Error {
  readonly refusal: Refusal
  readonly reason: BackdoorsError
  constructor(refusal: Refusal, reason: BackdoorsError) {
    super(reason.message)
    this.refusal = refusal
    this.reason = reason
  }
}

function judgeHello(frame: Buffer, { peer, cluster }: WelcomePeerOptions): HelloMessage {
  const refuse = (refusal: Refusal, message: string): Refused => new Refused(refusal, new BackdoorsError('HANDSHAKE_REFUSED', message, { peer }))
  const { protocolVersion: theirs } = readMessage(helloVersionSchema, frame)
  if (theirs !== protocolVersion) throw refuse('protocol-version', `this node speaks protocol version ${protocolVersion}, not ${theirs}`)
  const hello = readMessage(helloSchema, frame)
  if (hello.cluster !== cluster) throw refuse('cluster', `this node does not belong to the cluster ${hello.cluster}`)
  if (hello.node !== peer) throw refuse('node', `the hello is from ${hello.node}, the certificate is that of ${peer}`)
  return hello
}

async function lend({ lend: lendTo, peer }: WelcomePeerOptions, message: HelloMessage): Promise<Welcome> {
  const hello: Hello = message.fabric === 'verbs' ? { fabric: message.fabric, endpoints: message.endpoints } : { fabric: message.fabric }
  let welcome: Welcome
  try {
    welcome = await lendTo(hello)
  } catch (error) {
    throw new Refused('lend', asBackdoorsError(error, 'HANDSHAKE_REFUSED', `lending memory to ${peer}`, { peer }))
  }
  if (welcome.fabric !== hello.fabric) {
    throw new Refused('fabric', new BackdoorsError('HANDSHAKE_REFUSED', `this node lends its memory over ${welcome.fabric}, not over ${hello.fabric}`, { peer }))
  }
  return welcome
}

function send(socket: TLSSocket, message: AnswerMessage): void {
  socket.write(encodeFrame(toWire(answerSchema, message)))
}
