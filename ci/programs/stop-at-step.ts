/**
 * Loaded before the daemon (`node --import`): stops the process, beat thread and all, at the very instant at which it tells of a step
 * of a recovery. `STOP_AT_PEER` and `STOP_AT_STEP` say of whose, and which. The daemon itself knows nothing of it.
 */
const { STOP_AT_PEER: peer, STOP_AT_STEP: step } = process.env
const write = process.stdout.write.bind(process.stdout)

process.stdout.write = (chunk: string | Uint8Array, ...rest: never[]): boolean => {
  const isWritten = write(chunk, ...rest)
  if (typeof chunk === 'string' && isStep(chunk)) process.kill(process.pid, 'SIGSTOP')
  return isWritten
}

function isStep(line: string): boolean {
  if (!line.startsWith('{')) return false
  const event = JSON.parse(line) as { event?: string; peer?: string; step?: string }
  return event.event === 'step' && event.peer === peer && event.step === step
}
