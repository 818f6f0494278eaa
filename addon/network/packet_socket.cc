#include "packet_socket.h"

#include <linux/if_packet.h>
#include <sys/socket.h>

#include <cerrno>

#include "common/file_descriptor.h"

namespace backdoors::network {

int SendFrame(int interface_index, std::span<const uint8_t> frame, const char** call) {
  *call = "socket";
  // Protocol 0: it receives nothing.
  const FileDescriptor fd(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  if (!fd) return errno;
  *call = "sendto";
  sockaddr_ll target = {};
  target.sll_family = AF_PACKET;
  target.sll_ifindex = interface_index;
  ssize_t sent;
  do {
    sent = sendto(fd.get(), frame.data(), frame.size(), MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&target), sizeof target);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? errno : 0;
}

}  // namespace backdoors::network
