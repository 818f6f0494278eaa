/**
 * Loaded before the daemon (`node --import`): sends the process a signal, beat thread and all, at the very instant at which it tells of a
 * step of a recovery. `SIGNAL_AT_PEER` and `SIGNAL_AT_STEP` say of whose, and which; `SIGNAL` is SIGSTOP or SIGKILL. The daemon itself
 * knows nothing of it.
 */
const { SIGNAL_AT_PEER: peer, SIGNAL_AT_STEP: step, SIGNAL: signal } = process.env
const write = process.stdout.write.bind(process.stdout)

process.stdout.write = (chunk: string | Uint8Array, ...rest: never[]): boolean => {
  const isWritten = write(chunk, ...rest)
  if (typeof chunk === 'string' && isStep(chunk)) process.kill(process.pid, signal)
  return isWritten
}

function isStep(line: string): boolean {
  if (!line.startsWith('{')) return false
  const event = JSON.parse(line) as { event?: string; peer?: string; step?: string }
  return event.event === 'step' && event.peer === peer && event.step === step
}
