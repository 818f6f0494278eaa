/** How late a process of this machine is at the moment, only because others run as well. */

/** Time between two looks, in milliseconds. */
const everyMs = 5
/** A sensor's deadline is so many times the worst lateness that was seen. */
const margin = 4
export const usualDeadlineMs = 50
/** The least where the usual one does not do. */
export const leastBusyDeadlineMs = 250
export const longestDeadlineMs = 1000

/**
 * Measures while `work` runs. A deadline below a machine's own hiccups takes the living for dead, so on a busy
 * machine it is longer.
 * @returns the deadline that a server's sensor should have here, in milliseconds
 */
export async function fittingDeadlineMs(work: Promise<void>): Promise<number> {
  let worstMs = 0
  let lastMs = performance.now()
  const timer = setInterval(() => {
    const nowMs = performance.now()
    worstMs = Math.max(worstMs, nowMs - lastMs - everyMs)
    lastMs = nowMs
  }, everyMs)
  try {
    await work
  } finally {
    clearInterval(timer)
  }
  const fittingMs = Math.ceil((worstMs * margin) / 10) * 10
  // What is seen while the daemons start is a sample: a machine that is busy at all may be busier later.
  return fittingMs <= usualDeadlineMs ? usualDeadlineMs : Math.min(longestDeadlineMs, Math.max(leastBusyDeadlineMs, fittingMs))
}
