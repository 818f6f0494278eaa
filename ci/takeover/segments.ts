/** What of TCP passed the switch: how often a client had to send its request, and whether anybody reset a connection. */

/** Offsets in an Ethernet frame with an IPv4 packet without options of its own; what has any is no segment of these clients. */
const [etherType, ipStart] = [12, 14] as const
const ipv4 = 0x0800
const tcp = 6
const resetFlag = 4

interface Segment {
  readonly from: string
  readonly to: string
  readonly fromPort: number
  readonly toPort: number
  readonly sequence: number
  readonly isReset: boolean
  readonly dataBytes: number
}

function parseSegment(frame: Buffer): Segment | undefined {
  if (frame.length < ipStart + 40 || frame.readUInt16BE(etherType) !== ipv4 || frame[ipStart + 9] !== tcp) return undefined
  const ipBytes = (frame.readUInt8(ipStart) & 15) * 4
  const at = ipStart + ipBytes
  if (frame.length < at + 20) return undefined
  const tcpBytes = (frame.readUInt8(at + 12) >> 4) * 4
  return {
    from: frame.subarray(ipStart + 12, ipStart + 16).join('.'), to: frame.subarray(ipStart + 16, ipStart + 20).join('.'),
    fromPort: frame.readUInt16BE(at), toPort: frame.readUInt16BE(at + 2), sequence: frame.readUInt32BE(at + 4),
    isReset: (frame.readUInt8(at + 13) & resetFlag) !== 0, dataBytes: frame.readUInt16BE(ipStart + 2) - ipBytes - tcpBytes,
  }
}

/** A client's last request, and what became of it. */
interface Request {
  readonly sequence: number
  readonly firstMs: number
  lastMs: number
  transmissions: number
}

/** A request that was on its way when the machine failed, or came after. */
export interface ObservedWait {
  readonly port: number
  /** From its first transmission to its answer, in milliseconds. */
  readonly waitMs: number
  readonly transmissions: number
  /** From its last transmission, the one that was heard. */
  readonly afterLastMs: number
}

/** A request and its answer, as they passed the switch; times as `performance.now()` tells them. */
export interface ObservedRequest {
  readonly port: number
  readonly fromMs: number
  readonly toMs: number
  /** The guest that answered. */
  readonly by: string
}

export class SegmentLog {
  readonly #address: string
  readonly #port: number
  readonly #requests = new Map<number, Request>()
  readonly #waits = new Map<number, ObservedWait>()
  readonly #answered = new Set<Request>()
  readonly requests: ObservedRequest[] = []
  #failedMs = Infinity
  resets = 0

  /** @param address that the clients talk to */
  constructor(address: string, port: number) {
    this.#address = address
    this.#port = port
  }

  fail(atMs: number): void {
    this.#failedMs = atMs
  }

  /** Of each client's first answer since the failure. */
  get waits(): ObservedWait[] {
    return [...this.#waits.values()]
  }

  readonly observe = (from: string, frame: Buffer): void => {
    const segment = parseSegment(frame)
    if (segment === undefined) return
    const nowMs = performance.now()
    if (segment.to === this.#address && segment.toPort === this.#port && segment.dataBytes > 0) this.#onRequest(segment, nowMs)
    if (segment.from === this.#address && segment.fromPort === this.#port) this.#onAnswer(segment, nowMs, from)
  }

  #onRequest({ fromPort, sequence }: Segment, nowMs: number): void {
    const last = this.#requests.get(fromPort)
    if (last?.sequence !== sequence) return void this.#requests.set(fromPort, { sequence, firstMs: nowMs, lastMs: nowMs, transmissions: 1 })
    last.lastMs = nowMs
    last.transmissions++
  }

  #onAnswer({ toPort, dataBytes, isReset }: Segment, nowMs: number, by: string): void {
    if (isReset && nowMs > this.#failedMs) this.resets++
    const request = this.#requests.get(toPort)
    if (dataBytes === 0 || request === undefined) return
    if (!this.#answered.has(request)) this.requests.push({ port: toPort, fromMs: request.firstMs, toMs: nowMs, by })
    this.#answered.add(request)
    if (nowMs < this.#failedMs || this.#waits.has(toPort)) return
    // What it had sent before the failure and was answered for by then is no wait of this failure's.
    this.#waits.set(toPort, { port: toPort, waitMs: nowMs - request.firstMs, transmissions: request.transmissions, afterLastMs: nowMs - request.lastMs })
  }
}
