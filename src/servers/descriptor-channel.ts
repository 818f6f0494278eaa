/**
 * Messages with file descriptors between processes of one machine: the daemon listens, and hands the sockets that it has restored to
 * servers, which connect. Each message is whole or not there; nothing of it is JSON or anything else.
 */
import { rmSync } from 'node:fs'
import type { ChannelListeners, NativeDescriptorChannel, NativeDescriptorListener } from '../native/network.js'
import { networkAddon } from '../native/load.js'

/** What one message holds at the most. */
export const mostMessageBytes = 65_536
export const mostDescriptors = 64

export interface DescriptorChannelListeners {
  /** The descriptors are the listener's, to be used or closed (`closeDescriptors`). What is thrown ends the channel. */
  readonly onMessage: (message: Uint8Array, descriptors: readonly number[], channel: DescriptorChannel) => void
  /** What was queued has left. */
  readonly onDrain?: () => void
  /** The other end has closed it, or it failed (errno, else 0). Not called for `close()`. */
  readonly onClose?: (errno: number) => void
}

export class DescriptorChannel {
  readonly #native: NativeDescriptorChannel
  #isOpen = true

  /** @param target path of a listener's socket, or a connected descriptor, which is the channel's then. @throws BackdoorsError SYSTEM_CALL_FAILED */
  constructor(target: string | number, listeners: DescriptorChannelListeners) {
    const native: ChannelListeners = {
      onMessage: (message, descriptors) => this.#onMessage(listeners, message, descriptors),
      onDrain: () => listeners.onDrain?.(),
      onClose: (errno) => {
        this.#isOpen = false
        listeners.onClose?.(errno)
      },
    }
    this.#native = new (networkAddon().DescriptorChannel)(target, native)
  }

  /**
   * @example
   * const channel = DescriptorChannel.connect(path, {
   *   onMessage: (message, [descriptor]) => serve(new Socket({ fd: descriptor })),
   * })
   * @throws BackdoorsError SYSTEM_CALL_FAILED: ECONNREFUSED or ENOENT where nobody listens
   */
  static connect(path: string, listeners: DescriptorChannelListeners): DescriptorChannel {
    return new DescriptorChannel(path, listeners)
  }

  /**
   * Sends now, or queues; the descriptors stay the caller's, who may close them when it returns.
   * @param message 1 to 65,536 bytes
   * @param descriptors at most 64
   * @returns false where more should wait for `onDrain`
   * @throws BackdoorsError CLOSED; QUEUE_FULL, when 16 MiB or 4096 messages wait; SYSTEM_CALL_FAILED, e.g. EPIPE
   */
  send(message: Uint8Array, descriptors: readonly number[] = []): boolean {
    return this.#native.send(message, descriptors)
  }

  get isOpen(): boolean {
    return this.#isOpen
  }

  /** Does not keep the process going from here on. */
  unref(): this {
    this.#native.setKeepsAlive(false)
    return this
  }

  /** Idempotent. What is queued is lost. */
  close(): void {
    this.#isOpen = false
    this.#native.close()
  }

  #onMessage({ onMessage, onClose }: DescriptorChannelListeners, message: Uint8Array, descriptors: readonly number[]): void {
    try {
      onMessage(message, descriptors, this)
    } catch (error) {
      this.close()
      onClose?.(0)
      throw error
    }
  }
}

/** The daemon's end. Its file is for its owner only; others than the same user and root are turned away. */
export class DescriptorListener {
  readonly #native: NativeDescriptorListener
  readonly #channels = new Set<DescriptorChannel>()

  /**
   * A file that is there under the name is taken for one that a dead process left: who listens must know that no other does.
   * @param onConnection says what is listened for on a new channel
   * @throws BackdoorsError SYSTEM_CALL_FAILED
   */
  constructor(path: string, onConnection: () => DescriptorChannelListeners & { readonly onOpen?: (channel: DescriptorChannel) => void }) {
    rmSync(path, { force: true })
    this.#native = new (networkAddon().DescriptorListener)(path, (descriptor) => this.#accept(descriptor, onConnection()))
  }

  unref(): this {
    this.#native.setKeepsAlive(false)
    return this
  }

  /** How many channels are open. */
  get count(): number {
    return this.#open().length
  }

  /** With all of its channels, and its file. Idempotent. */
  close(): void {
    this.#native.close()
    for (const channel of this.#channels) channel.close()
    this.#channels.clear()
  }

  #open(): DescriptorChannel[] {
    for (const channel of this.#channels) if (!channel.isOpen) this.#channels.delete(channel)
    return [...this.#channels]
  }

  #accept(descriptor: number, listeners: DescriptorChannelListeners & { readonly onOpen?: (channel: DescriptorChannel) => void }): void {
    const channel = new DescriptorChannel(descriptor, listeners)
    this.#open()
    this.#channels.add(channel)
    listeners.onOpen?.(channel)
  }
}

/** Those of a message that is not wanted. */
export function closeDescriptors(descriptors: readonly number[]): void {
  for (const descriptor of descriptors) networkAddon().closeDescriptor(descriptor)
}
