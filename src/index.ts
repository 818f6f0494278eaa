/**
 * Backdoors: detects failed servers and recovers their client sessions by reading the failed machine's memory.
 *
 * A server uses `attach`, and `continuable` where its connections are to go on elsewhere; whoever embeds the per-machine
 * process uses `startDaemon`. The rest is what these take, give and throw.
 */
export { attach, AttachedNode, type AttachOptions, type SensorOptions } from './servers/attach.js'
export { SessionStore, type Adopted, type SessionStoreOptions } from './servers/session-store.js'
export type { ConnectionOutcome, OnRestored, RestoredConnection } from './servers/restored-connection.js'
export { bytesCodec, messagePackCodec, type Codec } from './servers/codec.js'
export { continuable, type Continuable, type ContinuableOptions, type ContinuableStatistics, type ContinuationNode } from './servers/continuable/continuable.js'
export { checkpoint, continuationOf, isReplay, requestKey, type Continuation } from './servers/continuable/requests.js'
export type { UnfinishedRequest } from './servers/continuable/take-over-connection.js'
export { continuableWebSockets, messageKey, type ContinuableWebSocket, type WebSockets } from './servers/continuable/web-sockets.js'
export type { SensorHandle } from './region/sensor-handle.js'
export { startDaemon, type Daemon, type DaemonEvents, type DaemonOptions } from './daemon/daemon.js'
export { loadConfig, type DaemonConfigInput } from './daemon/config.js'
export type { BoxVerdict, Evidence, NodeVerdict } from './monitor/verdict.js'
export type { RecoveryReport, RecoveryTarget } from './recovery/recover.js'
export type { RecoveryStep } from './region/control.js'
export { BackdoorsError, isBackdoorsError, type ErrorCode, type ErrorDetails } from './errors.js'
