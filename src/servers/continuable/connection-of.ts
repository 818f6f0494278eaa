/** Which connection a socket is, or a WebSocket on it. */
import type { Connection } from './connection.js'

const connectionKey = Symbol('backdoors.connection')

interface Marked {
  [connectionKey]?: Connection
}

export const connectionOf = (socket: object): Connection | undefined => (socket as Marked)[connectionKey]

export function setConnection(socket: object, connection: Connection): void {
  ;(socket as Marked)[connectionKey] = connection
}
