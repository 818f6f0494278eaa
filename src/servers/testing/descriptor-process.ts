/** A server as the daemon hands sockets to it: answers by the first, in a process of its own. node descriptor-process.ts PATH */
import { Socket } from 'node:net'
import { DescriptorChannel } from '../descriptor-channel.js'

DescriptorChannel.connect(process.argv[2] as string, {
  onMessage: (message, descriptors, channel) => {
    const sockets = descriptors.map((fd) => new Socket({ fd }))
    sockets.forEach((socket, index) => socket.end(`${Buffer.from(message).toString()} ${index} of ${sockets.length}`))
    channel.send(Buffer.from(`took ${sockets.length}`))
  },
  onClose: (errno) => process.stdout.write(`closed ${errno}\n`),
})
process.stdout.write('connected\n')
