/** How long both ends of a connection between emulated machines wait for each other. */

/** 4.096 µs × 2^16, 268 ms: an emulated machine answers reads by its processor, when that has time for it. */
export const answerTimeout = 16
/** Of a long read several packets may be lost, and each costs an answer time-out. */
export const readTimeoutMs = 10_000
