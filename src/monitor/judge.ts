/** The detector: a pure function from what was observed to a verdict. */
import type { BoxVerdict, Judgement, NodeVerdict, Observation, ObservedBox, ObservedKernel, ObservedSensor } from './verdict.js'

/**
 * Undefined where the observation does not decide yet: the OS sensor has stopped, and the servers' sensors and the kernel
 * have neither stopped nor moved for long enough after it; or a server has stopped, and the OS sensor may have stopped
 * with it; or reads fail, and it is not known yet whether the machine answers otherwise.
 */
export function judge(observation: Observation): Judgement | undefined {
  const { reachable, osSensor, boxes, kernel } = observation
  if (reachable && kernel?.panicked !== undefined) return { node: { kind: 'os-panicked', seen: kernel.panicked }, boxes: [] }
  // An OS sensor says more than the kernel's variables: its thread has to be scheduled. So has a server's.
  if (reachable && osSensor === undefined && kernel?.stalled !== undefined && !boxes.some(moves)) return { node: { kind: 'os-stalled', seen: kernel.stalled }, boxes: [] }
  if (!reachable || osSensor?.stalled) {
    const node = osSensor && reachable ? judgeStalled(osSensor, boxes, kernel) : judgeUnreachable(observation)
    return node && { node, boxes: [] }
  }
  // Of a machine that stops, the sensor that beat first is past its deadline first: no server is condemned before it
  // is seen that the machine outlives it.
  const isInDoubt = osSensor !== undefined && osSensor.ageUs > osSensor.deadlineUs / 2
  if (isInDoubt && boxes.some((box) => !box.exited && box.sensors.some((sensor) => sensor.stalled))) return undefined
  const node: NodeVerdict = { kind: 'alive', seen: osSensor ? 'the OS sensor moves' : (kernel?.moves ?? 'reads succeed') }
  return { node, boxes: boxes.map(judgeBox) }
}

const moves = ({ exited, sensors }: ObservedBox): boolean => !exited && sensors.some(({ pending, stalled }) => pending !== 0 && !stalled)

function judgeUnreachable({ control, status }: Observation): NodeVerdict | undefined {
  const reads = `reads fail (${status ?? 'no answer'})`
  if (control === 'unheard') return undefined
  if (control === 'reset' || control === 'answers') return { kind: 'daemon-lost', seen: `${reads}, and the machine still answers` }
  return { kind: 'unreachable', seen: control === 'silent' ? `${reads}, and the machine answers nothing` : reads }
}

function judgeStalled(osSensor: ObservedSensor, boxes: readonly ObservedBox[], kernel: ObservedKernel = {}): NodeVerdict | undefined {
  const servers = boxes.filter((box) => !box.exited)
  const sensors = servers.flatMap((box) => box.sensors.filter((sensor) => sensor.pending !== 0))
  // A sensor that moved a whole OS deadline after the OS sensor's last move belongs to a machine that runs, as long as it moves.
  const moved = sensors.find((sensor) => !sensor.stalled && osSensor.ageUs - sensor.ageUs > osSensor.deadlineUs)
  const stopped = `the OS sensor has not moved for ${Math.round(osSensor.ageUs)} µs (deadline ${osSensor.deadlineUs} µs)`
  if (moved) return { kind: 'daemon-stalled', seen: `${stopped}, but ${moved.name} moves`, sensor: osSensor }
  // A kernel that owes progress and makes none needs no sensor beside it, but one that has moved just now speaks against it.
  if (kernel.stalled !== undefined && sensors.every((sensor) => sensor.stalled || sensor.ageUs > osSensor.deadlineUs)) {
    return { kind: 'os-stalled', seen: `${stopped}, and its kernel has stopped: ${kernel.stalled}`, sensor: osSensor }
  }
  if (sensors.length > 0) {
    return sensors.every((sensor) => sensor.stalled) ? { kind: 'os-stalled', seen: `${stopped}, and none of ${sensors.length} server sensors moves`, sensor: osSensor } : undefined
  }
  return judgeByKernel(osSensor, stopped, servers.length > 0, kernel)
}

/** No server's sensor has to move, so that none says anything of the machine: it may be the daemon alone that has stopped. */
function judgeByKernel(osSensor: ObservedSensor, stopped: string, hasServers: boolean, { moves, movedWithinUs = 0 }: ObservedKernel): NodeVerdict | undefined {
  if (moves !== undefined) {
    // As with a server's sensor: what moved a whole OS deadline after the OS sensor's last move belongs to a machine that runs.
    return osSensor.ageUs - movedWithinUs > osSensor.deadlineUs ? { kind: 'daemon-stalled', seen: `${stopped}, but ${moves}`, sensor: osSensor } : undefined
  }
  if (hasServers) return { kind: 'daemon-stalled', seen: `${stopped}, and no server's sensor has to move`, sensor: osSensor }
  return { kind: 'os-stalled', seen: `${stopped}, and there is no server`, sensor: osSensor }
}

function judgeBox({ box, name, generation, exited, sensors }: ObservedBox): BoxVerdict {
  const subject = { box, name, generation }
  if (exited) return { ...subject, kind: 'app-exited', seen: 'the daemon has marked the process as gone' }
  const stalled = sensors.find((sensor) => sensor.stalled)
  if (!stalled) return { ...subject, kind: 'alive', seen: 'its sensors move or have nothing to do' }
  const seen = `${stalled.name} has not moved for ${Math.round(stalled.ageUs)} µs (deadline ${stalled.deadlineUs} µs) while the OS sensor moves`
  return { ...subject, kind: 'app-stalled', seen, sensor: stalled }
}
