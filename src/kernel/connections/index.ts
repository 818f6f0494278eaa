/** TCP connections out of a dead kernel. */
export { ConnectionReader, type Extraction } from './connection-reader.js'
export type { ExtractedConnection, SkippedConnection } from './extracted-connection.js'
export type { WantedConnections } from './wanted.js'
