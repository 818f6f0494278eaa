export type Severity = 'ok' | 'warn' | 'bad'

/** What one check found. */
export interface Finding {
  /** Stable name of the check, e.g. `memlock`. */
  readonly check: string
  readonly severity: Severity
  /** What was seen, with figures. */
  readonly seen: string
  /** Why it matters to Backdoors. */
  readonly why: string
  /** What to do; only where something is to be done. */
  readonly mend?: string
}

/** What this machine is to do, as far as the checks depend on it. */
export interface Purpose {
  /** Peers reach this machine's memory by RDMA, so that it has to survive the machine's operating system. */
  readonly fabric: 'shm' | 'verbs'
  /** Length of the region that is to be lent, and where. */
  readonly regionBytes: number
  readonly regionPath: string
  /** Does it take virtual addresses over (`recovery.addresses`)? */
  readonly takesAddresses?: boolean
}

/** Trouble that only matters where memory has to outlive the operating system. */
export const badOnVerbs = ({ fabric }: Purpose): Severity => (fabric === 'verbs' ? 'bad' : 'warn')
