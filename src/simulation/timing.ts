/**
 * The times of a simulated cluster. Deadlines and intervals stand to each other as they do in a real one, but are longer, so that a
 * thousand clusters cost less than a minute: a sampler that reads ten times less often makes ten times fewer events.
 */

export const ms = 1000

export const timing = {
  /** The OS sensor and each server's event loop beat so often, in microseconds. */
  beatEveryUs: 10 * ms,
  /** Of both kinds of sensor. */
  deadlineUs: 50 * ms,
  sampleEveryUs: 10 * ms,
  unreachableAfterUs: 150 * ms,
  refreshEveryUs: 100 * ms,
  lookAfterEveryUs: 80 * ms,
  planEveryUs: 200 * ms,
  /** How often a daemon tries to connect to a peer that it has no link to. */
  connectEveryUs: 100 * ms,
  /** By a unix socket, and over the clients' network; each at most twice that. */
  localMessageUs: 50,
  clientMessageUs: 100,
  /** Of a request or an answer between two daemons. */
  controlMessageUs: 100,
  /** A client waits so long for an answer, and so long between two requests, at most twice that. */
  clientPatienceUs: 40 * ms,
  clientPauseUs: 25 * ms,
  /** What watches over a process starts it again after so long. */
  restartUs: 40 * ms,
  /** Faults begin and end between these two. */
  firstFaultUs: 300 * ms,
  lastFaultUs: 1300 * ms,
  healedUs: 1600 * ms,
  /** Whatever has not been recovered by then is lost: retries double from a second on, and a peer that never came has ten. */
  limitUs: 25_000 * ms,
} as const
