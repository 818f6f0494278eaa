/**
 * Every error of the project, with its code.
 *
 * A code is stable: programs may branch on it. `docs/errors.md` lists the same codes with what to do, and a
 * test keeps the two equal.
 */

/** Work completion statuses of libibverbs (`enum ibv_wc_status`), in numeric order; index 0 is success. */
export const workCompletionStatuses = [
  'WC_SUCCESS',
  'WC_LOC_LEN_ERR',
  'WC_LOC_QP_OP_ERR',
  'WC_LOC_EEC_OP_ERR',
  'WC_LOC_PROT_ERR',
  'WC_WR_FLUSH_ERR',
  'WC_MW_BIND_ERR',
  'WC_BAD_RESP_ERR',
  'WC_LOC_ACCESS_ERR',
  'WC_REM_INV_REQ_ERR',
  'WC_REM_ACCESS_ERR',
  'WC_REM_OP_ERR',
  'WC_RETRY_EXC_ERR',
  'WC_RNR_RETRY_EXC_ERR',
  'WC_LOC_RDD_VIOL_ERR',
  'WC_REM_INV_RD_REQ_ERR',
  'WC_REM_ABORT_ERR',
  'WC_INV_EECN_ERR',
  'WC_INV_EEC_STATE_ERR',
  'WC_FATAL_ERR',
  'WC_RESP_TIMEOUT_ERR',
  'WC_GENERAL_ERR',
  'WC_TM_ERR',
  'WC_TM_RNDV_INCOMPLETE',
] as const

export type WorkCompletionStatus = (typeof workCompletionStatuses)[number]
export type WorkCompletionCode = Exclude<WorkCompletionStatus, 'WC_SUCCESS'>

export const workCompletionCodes = workCompletionStatuses.filter((status): status is WorkCompletionCode => status !== 'WC_SUCCESS')

/** Every code, in the order of docs/errors.md. */
export const errorCodes = [
  // the caller's own mistake
  'INVALID_ARGUMENT',
  'CONFIG_INVALID',
  // the addon and the machine
  'ADDON_NOT_BUILT',
  'VERBS_UNAVAILABLE',
  'SYSTEM_CALL_FAILED',
  'MEMLOCK_LIMIT',
  'CAPABILITY_MISSING',
  'FILE_IN_USE',
  // reaching remote memory
  'OUT_OF_RANGE',
  'READ_ONLY',
  'UNALIGNED',
  'CLOSED',
  'QUEUE_FULL',
  'TIMEOUT',
  'DEVICE_NOT_FOUND',
  'NO_USABLE_GID',
  'VERBS_CALL_FAILED',
  'QP_TRANSITION',
  ...workCompletionCodes,
  // connecting to a peer
  'HANDSHAKE_REFUSED',
  'HANDSHAKE_TIMEOUT',
  'MESSAGE_TOO_LARGE',
  'PROTOCOL_ERROR',
  'PEER_UNKNOWN',
  'PEER_UNREACHABLE',
  'CERTIFICATE_INVALID',
  'KEYS_EXIST',
  'KEYS_MISSING',
  // who the other nodes are
  'ETCD_UNAVAILABLE',
  'ETCD_REFUSED',
  'MEMBER_INVALID',
  // the region and its boxes
  'REGION_NOT_FOUND',
  'REGION_EXISTS',
  'REGION_TRUNCATED',
  'REGION_CORRUPT',
  'LAYOUT_UNSUPPORTED',
  'BOX_IN_USE',
  'BOXES_EXHAUSTED',
  'SENSORS_EXHAUSTED',
  'BOX_FULL',
  'SESSION_TOO_LARGE',
  'SESSION_ID_INVALID',
  'SCHEMA_MISMATCH',
  'PAYLOAD_INVALID',
  'RECORD_CORRUPT',
  'FENCED',
  // recovery
  'ALREADY_CLAIMED',
  'CLAIM_UNSETTLED',
  'CLAIM_LOST',
  'FENCE_FAILED',
  'MEMORY_LOST',
  'ANNOUNCE_FAILED',
  // a kernel's memory
  'NOT_MAPPED',
  'KERNEL_NOT_FOUND',
  'KERNEL_UNSUPPORTED',
  'KERNEL_DATA_CORRUPT',
  // the daemon
  'DAEMON_UNAVAILABLE',
] as const

export type ErrorCode = (typeof errorCodes)[number]

/** What an error was about. Only the fields that apply are present. */
export interface ErrorDetails {
  /** The node at the other end. */
  peer?: string
  /** Offset into the remote memory, in bytes. */
  offset?: number
  /** Length of the access, in bytes. */
  length?: number
  /** Remote virtual address: that the work request carried, or of another machine's kernel or process. */
  address?: bigint
  /** `vendor_err` of the failed work completion. */
  vendorError?: number
  /** Number of the queue pair. */
  queuePair?: number
  /** errno of the failed call, by its number and its name. */
  errno?: number
  errnoName?: string
  /** The system or library call that failed. */
  call?: string
  /** File, device or socket concerned. */
  path?: string
  /** Network interface concerned. */
  interface?: string
  /** Box number within its region. */
  box?: number
  /** Session store and session id. */
  store?: string
  sessionId?: string
  /** Where in a configuration or a message the fault lies, e.g. `peers[2].address`. */
  field?: string
}

export interface BackdoorsErrorOptions extends ErrorDetails {
  cause?: unknown
}

/**
 * The one error class. `code` says what happened, `details` to whom and where, `message` both and what to do.
 *
 * @example
 * try { carts.commit(id, cart) } catch (error) {
 *   if (isBackdoorsError(error, 'FENCED')) process.exit(1)
 *   throw error
 * }
 */
export class BackdoorsError extends Error {
  override readonly name = 'BackdoorsError'
  readonly code: ErrorCode
  readonly details: Readonly<ErrorDetails>

  constructor(code: ErrorCode, message: string, options: BackdoorsErrorOptions = {}) {
    const { cause, ...details } = options
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    this.details = details
  }

  /** A plain object for logs and `--json`; the cause is given by its message only. */
  toJSON(): Record<string, unknown> {
    const details = Object.fromEntries(
      Object.entries(this.details).map(([key, value]) => [key, typeof value === 'bigint' ? `0x${value.toString(16)}` : value]),
    )
    const cause = this.cause instanceof Error ? { cause: this.cause.message } : {}
    return { code: this.code, message: this.message, ...details, ...cause }
  }
}

/** Is `error` one of ours, and, if codes are given, one of those? */
export function isBackdoorsError(error: unknown, ...codes: ErrorCode[]): error is BackdoorsError {
  return error instanceof BackdoorsError && (codes.length === 0 || codes.includes(error.code))
}

/** Converts anything thrown into one of ours, keeping it as the cause. */
export function asBackdoorsError(error: unknown, code: ErrorCode, doing: string, details: ErrorDetails = {}): BackdoorsError {
  if (error instanceof BackdoorsError) return error
  const reason = error instanceof Error ? error.message : String(error)
  return new BackdoorsError(code, `${doing}: ${reason}`, { ...details, cause: error })
}
