/** Quantities as people read them. */

const bytesPerUnit: readonly (readonly [string, number])[] = [['GiB', 2 ** 30], ['MiB', 2 ** 20], ['KiB', 2 ** 10]]

/** `1.5 MiB`; exact below 1 KiB. */
export function formatBytes(bytes: number): string {
  const unit = bytesPerUnit.find(([, size]) => bytes >= size)
  return unit ? `${Number((bytes / unit[1]).toFixed(1))} ${unit[0]}` : `${bytes} B`
}

const usPerUnit: readonly (readonly [string, number])[] = [['d', 86_400e6], ['h', 3600e6], ['min', 60e6], ['s', 1e6], ['ms', 1000]]

/** A duration at the unit that fits it: `120 µs`, `3.4 ms`, `2.1 h`. */
export function formatUs(us: number): string {
  const unit = usPerUnit.find(([, size]) => us >= size)
  return unit ? `${(us / unit[1]).toFixed(1)} ${unit[0]}` : `${Math.round(us)} µs`
}
