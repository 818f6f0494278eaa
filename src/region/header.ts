import { BackdoorsError, isBackdoorsError, type ErrorDetails } from '../errors.js'
import { crc32c } from '../native/crc32c.js'
import { control, directoryEntry, header as at, layoutVersion, magic, maxNameBytes, planRegion, type RegionGeometry, type RegionPlan } from './layout.js'
import { decodeText, encodeName, viewOf } from './text.js'

/** Who lends a region, and how it is laid out. */
export interface RegionHeader {
  readonly node: string
  readonly cluster: string
  /** 64 bits, new whenever a region is made anew; never 0. */
  readonly incarnation: bigint
  readonly plan: RegionPlan
}

/** The header page (4096 bytes). */
export function encodeHeader(node: string, cluster: string, incarnation: bigint, geometry: RegionGeometry): Uint8Array {
  const plan = planRegion(geometry)
  const bytes = new Uint8Array(at.bytes)
  const view = viewOf(bytes)
  const nodeName = encodeName('node name', node, maxNameBytes)
  const clusterName = encodeName('cluster name', cluster, maxNameBytes)
  for (let i = 0; i < magic.length; i++) bytes[at.magic + i] = magic.charCodeAt(i)
  view.setUint32(at.version, layoutVersion, true)
  view.setUint32(at.headerBytes, at.bytes, true)
  view.setBigUint64(at.incarnation, incarnation, true)
  view.setBigUint64(at.regionBytes, BigInt(plan.regionBytes), true)
  view.setBigUint64(at.controlOffset, BigInt(control.offset), true)
  view.setBigUint64(at.controlBytes, BigInt(control.bytes), true)
  view.setBigUint64(at.directoryOffset, BigInt(plan.directoryOffset), true)
  view.setUint32(at.boxCount, plan.boxCount, true)
  view.setUint32(at.directoryEntryBytes, directoryEntry.bytes, true)
  view.setBigUint64(at.boxesOffset, BigInt(plan.boxesOffset), true)
  view.setBigUint64(at.boxBytes, BigInt(plan.boxBytes), true)
  view.setUint32(at.sensorsPerBox, plan.sensorsPerBox, true)
  view.setUint32(at.sessionsPerBox, plan.sessionsPerBox, true)
  view.setBigUint64(at.heapBytes, BigInt(plan.heapBytes), true)
  view.setUint32(at.nodeNameBytes, nodeName.length, true)
  bytes.set(nodeName, at.nodeName)
  view.setUint32(at.clusterNameBytes, clusterName.length, true)
  bytes.set(clusterName, at.clusterName)
  view.setUint32(at.crc, crc32c(bytes, 0, at.crc, 0), true)
  return bytes
}

/**
 * Reads a header page, from anywhere.
 * @throws BackdoorsError REGION_CORRUPT, LAYOUT_UNSUPPORTED (older or newer than this program's)
 */
export function decodeHeader(bytes: Uint8Array, whose: ErrorDetails = {}): RegionHeader {
  const corrupt = (why: string, cause?: unknown): BackdoorsError => new BackdoorsError('REGION_CORRUPT', `This is no region header: ${why}.`, { ...whose, cause })
  if (bytes.length < at.bytes) throw corrupt(`${bytes.length} bytes instead of ${at.bytes}`)
  const view = viewOf(bytes)
  if (decodeText(bytes, at.magic, magic.length) !== magic) throw corrupt('the magic is missing')
  const version = view.getUint32(at.version, true)
  if (version !== layoutVersion) {
    throw new BackdoorsError('LAYOUT_UNSUPPORTED', `The region has layout version ${version}, this program knows ${layoutVersion}: run the same release on both sides.`, whose)
  }
  if (view.getUint32(at.crc, true) !== crc32c(bytes, 0, at.crc, 0)) throw corrupt('its CRC is wrong')
  const plan = decodePlan(view, corrupt)
  const node = decodeText(bytes, at.nodeName, boundedName(view.getUint32(at.nodeNameBytes, true)))
  const cluster = decodeText(bytes, at.clusterName, boundedName(view.getUint32(at.clusterNameBytes, true)))
  const incarnation = view.getBigUint64(at.incarnation, true)
  if (!node || !cluster || incarnation === 0n) throw corrupt('its names or its incarnation are missing')
  return { node, cluster, incarnation, plan }
}

const boundedName = (length: number): number => (length <= maxNameBytes ? length : -1)

/** The geometry, planned anew. Throws what `corrupt` makes where there is no such plan, or its offsets are not the header's. */
function decodePlan(view: DataView, corrupt: (why: string, cause?: unknown) => BackdoorsError): RegionPlan {
  const plan = planOf(view, corrupt)
  const same =
    view.getUint32(at.headerBytes, true) === at.bytes &&
    view.getUint32(at.directoryEntryBytes, true) === directoryEntry.bytes &&
    view.getBigUint64(at.regionBytes, true) === BigInt(plan.regionBytes) &&
    view.getBigUint64(at.controlOffset, true) === BigInt(control.offset) &&
    view.getBigUint64(at.controlBytes, true) === BigInt(control.bytes) &&
    view.getBigUint64(at.directoryOffset, true) === BigInt(plan.directoryOffset) &&
    view.getBigUint64(at.boxesOffset, true) === BigInt(plan.boxesOffset) &&
    view.getBigUint64(at.boxBytes, true) === BigInt(plan.boxBytes)
  if (!same) throw corrupt('its sizes contradict each other')
  return plan
}

function planOf(view: DataView, corrupt: (why: string, cause?: unknown) => BackdoorsError): RegionPlan {
  try {
    return planRegion({
      boxCount: view.getUint32(at.boxCount, true),
      sensorsPerBox: view.getUint32(at.sensorsPerBox, true),
      sessionsPerBox: view.getUint32(at.sessionsPerBox, true),
      heapBytes: Number(view.getBigUint64(at.heapBytes, true)),
    })
  } catch (error) {
    if (!isBackdoorsError(error, 'INVALID_ARGUMENT')) throw error
    throw corrupt(`its sizes are out of their bounds (${error.message})`, error)
  }
}
