/**
 * An hour of music as a WAV file, made as it is sent: any stretch of it can be worked out by itself, and always comes out the same. So
 * a server that goes on with a stream that another one began needs to know nothing but how much of it was sent.
 */

const samplesPerSecond = 8000
const bytesPerSample = 2
export const headerBytes = 44

/** Two octaves of a pentatonic scale, as steps in a wave of 65,536 steps for each sample. */
const scale = [220, 247.5, 277.2, 330, 371.3, 440, 495, 554.4, 660, 742.5].map((hertz) => Math.round((hertz * 65_536) / samplesPerSecond))
/** A quarter of a second, in samples and in bytes. */
const noteSamples = 2000
const noteBytes = noteSamples * bytesPerSample
const waveSteps = 1024
const wave = Int16Array.from({ length: waveSteps }, (_, i) => Math.round(9000 * Math.sin((2 * Math.PI * i) / waveSteps) + 3000 * Math.sin((4 * Math.PI * i) / waveSteps)))
/** One for each step of the scale: all else of the music is copied from these. */
const notes = scale.map(madeOf)

export const streamBytes = (seconds: number): number => headerBytes + seconds * samplesPerSecond * bytesPerSample

/** The bytes of the file from `from` on, so many of them; fewer where it ends before. */
export function audioAt(from: number, length: number, seconds: number): Buffer {
  const end = Math.min(from + length, streamBytes(seconds))
  const bytes = Buffer.allocUnsafe(Math.max(0, end - from))
  const header = from < headerBytes ? headerOf(seconds) : undefined
  let at = from
  while (at < end && at < headerBytes) bytes[at - from] = header?.[at++] ?? 0
  while (at < end) {
    const place = at - headerBytes
    const number = Math.floor(place / noteBytes)
    const within = place - number * noteBytes
    at += noteOf(number).copy(bytes, at - from, within, Math.min(noteBytes, within + end - at))
  }
  return bytes
}

/** A tune that wanders over the scale. */
const noteOf = (number: number): Buffer => notes[(Math.imul(number, 2_654_435_761) >>> 27) % notes.length] as Buffer

/** A note, which fades. */
function madeOf(step: number): Buffer {
  const note = Buffer.allocUnsafe(noteBytes)
  for (let sample = 0; sample < noteSamples; sample++) {
    const place = ((sample * step) >>> 6) % waveSteps
    note.writeInt16LE(Math.trunc(((wave[place] ?? 0) * (noteSamples - sample)) / noteSamples), sample * bytesPerSample)
  }
  return note
}

function headerOf(seconds: number): Buffer {
  const header = Buffer.alloc(headerBytes)
  const dataBytes = streamBytes(seconds) - headerBytes
  header.write('RIFF', 0, 'latin1')
  header.writeUInt32LE(36 + dataBytes, 4)
  header.write('WAVEfmt ', 8, 'latin1')
  header.writeUInt32LE(16, 16)
  header.writeUInt16LE(1, 20)
  header.writeUInt16LE(1, 22)
  header.writeUInt32LE(samplesPerSecond, 24)
  header.writeUInt32LE(samplesPerSecond * bytesPerSample, 28)
  header.writeUInt16LE(bytesPerSample, 32)
  header.writeUInt16LE(8 * bytesPerSample, 34)
  header.write('data', 36, 'latin1')
  header.writeUInt32LE(dataBytes, 40)
  return header
}
