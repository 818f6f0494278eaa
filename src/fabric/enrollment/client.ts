/** The side that watches: connects to a node, proves itself, and is lent memory. */
import { connect } from 'node:tls'
import type { ConnectionOptions, TLSSocket } from 'node:tls'
import { asBackdoorsError, BackdoorsError, isBackdoorsError } from '../../errors.js'
import { nodeNameOf } from '../../keys/node-certificate.js'
import { assertName } from '../../keys/node-name.js'
import { systemClock } from './clock.js'
import type { Clock } from './clock.js'
import { isSilence } from './closure.js'
import { ControlConnection } from './control-connection.js'
import type { ControlConnectionOptions } from './control-connection.js'
import { parseCertificate } from './credentials.js'
import type { Credentials } from './credentials.js'
import { encodeFrame, FrameDecoder } from './framing.js'
import { receiveFrame, unlessAborted } from './handshake-io.js'
import { defaultConnectionLimits, defaultEnrollTimeoutMs } from './limits.js'
import type { ConnectionLimits } from './limits.js'
import { answerSchema, helloSchema, protocolVersion, readMessage, toWire } from './messages.js'
import type { AnswerMessage, Hello, ReceivedWelcome } from './messages.js'
import type { RequestHandlers } from './requests.js'

export interface EnrollOptions {
  readonly address: { readonly host: string; readonly port: number }
  /** The node that is meant; only its own certificate will do. */
  readonly peer: string
  readonly credentials: Credentials
  readonly cluster: string
  readonly hello: Hello
  /** Methods that the peer may call over the control connection. */
  readonly handlers?: RequestHandlers
  /** From the first packet to `welcome`, in milliseconds. */
  readonly timeoutMs?: number
  readonly limits?: Partial<ConnectionLimits>
  readonly signal?: AbortSignal
  readonly clock?: Clock
}

/** A control connection, and what was lent with it. */
export class EnrolledConnection extends ControlConnection {
  readonly welcome: ReceivedWelcome

  constructor(options: ControlConnectionOptions, welcome: ReceivedWelcome) {
    super(options)
    this.welcome = welcome
  }
}

/**
 * Enrolls at a peer: it lends its memory to the queue pairs of `hello`, which on verbs are in INIT by now and
 * can go to RTR and RTS with the welcome that comes back (`docs/protocol.md`).
 * @throws BackdoorsError PEER_UNREACHABLE (nothing listens or answers there), HANDSHAKE_TIMEOUT,
 *   HANDSHAKE_REFUSED, CERTIFICATE_INVALID (the other end is not the peer, or its certificate does not hold),
 *   PROTOCOL_ERROR, MESSAGE_TOO_LARGE, CLOSED (the signal), INVALID_ARGUMENT.
 */
export async function enroll(options: EnrollOptions): Promise<EnrolledConnection> {
  const { peer, credentials, cluster, hello, handlers = new Map(), limits, clock = systemClock } = options
  assertName(peer, 'node')
  assertName(cluster, 'cluster')
  const greeting = encodeFrame(toWire(helloSchema, { type: 'hello', protocolVersion, cluster, node: credentials.node, ...hello }))
  const deadline = startDeadline(options, clock)
  const socket = connect(connectOptions(options))
  socket.setNoDelay(true)
  socket.on('connect', deadline.machineAnswered)
  socket.on('error', () => undefined)
  const decoder = new FrameDecoder()
  try {
    await secured(socket, deadline.signal, peer)
    socket.write(greeting)
    const answer = readMessage(answerSchema, await receiveFrame(socket, decoder, deadline.signal))
    const welcome = judgeAnswer(answer, options)
    return new EnrolledConnection({ socket, decoder, peer, credentials, handlers, limits: { ...defaultConnectionLimits, ...limits }, clock }, welcome)
  } catch (error) {
    socket.destroy()
    throw withPeer(error, options)
  } finally {
    deadline.stop()
  }
}

function connectOptions({ address, peer, credentials }: EnrollOptions): ConnectionOptions {
  return {
    host: address.host,
    port: address.port,
    secureContext: credentials.context,
    servername: credentials.knockOn(peer),
    rejectUnauthorized: true,
    checkServerIdentity: (_, shown) => {
      const certificate = parseCertificate(shown.raw)
      const node = certificate === undefined ? undefined : nodeNameOf(certificate)
      if (node === peer) return undefined
      return new BackdoorsError('CERTIFICATE_INVALID', `the certificate shown at ${address.host}:${address.port} is that of ${node ?? 'no node'}, not of ${peer}: check the peer's address`, { peer })
    },
  }
}

interface Deadline {
  readonly signal: AbortSignal
  readonly machineAnswered: () => void
  readonly stop: () => void
}

function startDeadline({ peer, signal: outer, timeoutMs = defaultEnrollTimeoutMs }: EnrollOptions, clock: Clock): Deadline {
  const controller = new AbortController()
  let answered = false
  const timer = clock.after(timeoutMs, () => {
    const error = answered
      ? new BackdoorsError('HANDSHAKE_TIMEOUT', `${peer} took the connection but did not finish the handshake within ${timeoutMs} ms`, { peer })
      : new BackdoorsError('PEER_UNREACHABLE', `${peer} did not answer within ${timeoutMs} ms`, { peer, errnoName: 'ETIMEDOUT' })
    controller.abort(error)
  })
  const onOuterAbort = (): void => controller.abort(new BackdoorsError('CLOSED', `enrolling at ${peer} was given up`, { peer, cause: outer?.reason }))
  if (outer?.aborted === true) onOuterAbort()
  outer?.addEventListener('abort', onOuterAbort)
  return {
    signal: controller.signal,
    machineAnswered: () => (answered = true),
    stop: () => {
      timer.cancel()
      outer?.removeEventListener('abort', onOuterAbort)
    },
  }
}

/** Resolves when TLS is up and the other end is proved to be the peer. */
async function secured(socket: TLSSocket, signal: AbortSignal, peer: string): Promise<void> {
  const up = new Promise<void>((resolve, reject) => {
    socket.once('secureConnect', resolve)
    socket.once('error', reject)
    socket.once('close', () => reject(new BackdoorsError('HANDSHAKE_REFUSED', `${peer} ended the connection during the TLS handshake`, { peer })))
  })
  // If the deadline wins the race, what happens to the socket afterwards is of no interest.
  up.catch(() => undefined)
  await unlessAborted(up, signal)
  socket.pause()
}

function judgeAnswer(answer: AnswerMessage, { peer, hello }: EnrollOptions): ReceivedWelcome {
  if (answer.type === 'refused') throw new BackdoorsError('HANDSHAKE_REFUSED', `${peer} refused (${answer.code}): ${answer.message}`, { peer, field: answer.code })
  const { type: _, ...welcome } = answer
  if (welcome.node !== peer) throw new BackdoorsError('PROTOCOL_ERROR', `the welcome is from ${welcome.node}, the certificate is that of ${peer}`, { peer, field: 'node' })
  if (welcome.fabric !== hello.fabric) throw new BackdoorsError('PROTOCOL_ERROR', `${peer} answered for ${welcome.fabric}, not ${hello.fabric}`, { peer, field: 'fabric' })
  return welcome
}

/** What verification by OpenSSL says of a certificate that does not hold comes as one of these codes. */
const certificateCodes = /^(CERT_|CRL_|UNABLE_TO_|DEPTH_ZERO|SELF_SIGNED|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH|HOSTNAME_MISMATCH|ERR_TLS_CERT|ERROR_IN_CERT|ERROR_IN_CRL|EE_KEY|CA_)/

function withPeer(error: unknown, { peer, address }: EnrollOptions): BackdoorsError {
  if (isBackdoorsError(error)) {
    return error.details.peer === undefined ? new BackdoorsError(error.code, `${peer}: ${error.message}`, { ...error.details, peer, cause: error.cause }) : error
  }
  const { code = '', syscall, errno } = firstOf(error) as NodeJS.ErrnoException
  const where = `enrolling at ${peer} (${address.host}:${address.port})`
  const details = { peer, ...(errno === undefined ? {} : { errno: Math.abs(errno) }), ...(code === '' ? {} : { errnoName: code }) }
  if (certificateCodes.test(code)) return asBackdoorsError(error, 'CERTIFICATE_INVALID', `${where}: its certificate does not hold`, { peer })
  if (syscall === 'connect' || syscall === 'getaddrinfo' || isSilence(error)) return asBackdoorsError(error, 'PEER_UNREACHABLE', where, details)
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'EPROTO') return asBackdoorsError(error, 'PROTOCOL_ERROR', `${where}: what listens there does not speak TLS 1.3`, { peer })
  return asBackdoorsError(error, 'HANDSHAKE_REFUSED', `${where}: it ended the connection; if it lives, its log says why (certificate, revocation, peer list)`, details)
}

/** A name with several addresses fails with an error for each of them. */
function firstOf(error: unknown): unknown {
  return error instanceof AggregateError ? (error.errors[0] ?? error) : error
}
