/** What a file of members needs of the file system, so that a simulation can put its own in its place. */
import { readFileSync, statSync, watch } from 'node:fs'
import { BackdoorsError } from '../../errors.js'

/** No list of 1024 peers is longer, in bytes. */
const maxFileBytes = 1 << 20

export interface MemberFiles {
  /** Which file it is, and of when; it is another after every change, by whatever means. Of a file that cannot be looked at, why. */
  stamp(path: string): string
  /** @throws BackdoorsError CONFIG_INVALID for a file that is too long; what the file system throws */
  read(path: string): string
  /**
   * Tells of changes in a folder.
   * @param onEnd no more is told: the folder is to be watched anew
   * @returns what ends it; undefined where there is no folder, or no more watches are to be had
   */
  watchFolder(folder: string, onChange: () => void, onEnd: () => void): (() => void) | undefined
}

export const systemFiles: MemberFiles = {
  stamp: (path) => {
    try {
      const { dev, ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true })
      return [dev, ino, size, mtimeNs, ctimeNs].join()
    } catch (error) {
      return String((error as NodeJS.ErrnoException).code)
    }
  },
  read: (path) => {
    const { size } = statSync(path)
    if (size > maxFileBytes) throw new BackdoorsError('CONFIG_INVALID', `${path}: no list of peers has ${size} bytes`, { path, length: size })
    return readFileSync(path, 'utf8')
  },
  watchFolder: (folder, onChange, onEnd) => {
    try {
      const watcher = watch(folder, { persistent: false }, onChange)
      watcher.on('error', () => {
        watcher.close()
        onEnd()
      })
      return () => watcher.close()
    } catch {
      return undefined
    }
  },
}
