/** A value of a machine or of a server, and the limit that it should stay below. */
export interface Measure {
  /** With the unit of both; a sensor's name has 16 bytes, and a server's is preceded by the number of its box. */
  readonly name: string
  readonly kind: 'level' | 'pressure'
  readonly value: number
  /** 0 where there is none. */
  readonly limit: number
}
