/** What the rig and the agent in a guest say to each other: JSON lines over a virtio serial port. */

/** From the rig. `id` names the process for as long as the connection lasts; bytes travel as base64. */
export type AgentRequest =
  | {
      readonly op: 'spawn'
      readonly id: number
      readonly argv: readonly string[]
      readonly env: Readonly<Record<string, string>>
      readonly cwd: string
    }
  | { readonly op: 'stdin'; readonly id: number; readonly data: string }
  | { readonly op: 'stdin-end'; readonly id: number }
  /** `group`: also everything the process has started. */
  | { readonly op: 'kill'; readonly id: number; readonly signal: NodeJS.Signals; readonly group: boolean }

/** From the agent. */
export type AgentEvent =
  /** Sent once, when soft-RoCE has its IPv4 GID, or with `problem` when it got none. */
  | { readonly event: 'ready'; readonly gidIndex: number; readonly problem?: string }
  | { readonly event: 'started'; readonly id: number; readonly pid: number }
  | { readonly event: 'failed'; readonly id: number; readonly message: string }
  | { readonly event: 'output'; readonly id: number; readonly stream: 'stdout' | 'stderr'; readonly data: string }
  | { readonly event: 'exit'; readonly id: number; readonly code: number | null; readonly signal: NodeJS.Signals | null }
  /** After `exit`, once nobody holds the process's output open any more. */
  | { readonly event: 'closed'; readonly id: number }
