#include "descriptor_message.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace backdoors::network {

int SendMessage(int socket_fd, std::span<const uint8_t> bytes, std::span<const int> descriptors) {
  iovec part = {const_cast<uint8_t*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) std::array<uint8_t, CMSG_SPACE(kMostDescriptors * sizeof(int))> control = {};
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!descriptors.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size_bytes());
  }
  ssize_t sent;
  do {
    sent = sendmsg(socket_fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? errno : 0;
}

int ReceiveMessage(int socket_fd, DescriptorMessage* message) {
  message->bytes.resize(kMostMessageBytes);
  message->descriptors.clear();
  iovec part = {message->bytes.data(), message->bytes.size()};
  alignas(cmsghdr) std::array<uint8_t, CMSG_SPACE(kMostDescriptors * sizeof(int))> control = {};
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  ssize_t received;
  do {
    received = recvmsg(socket_fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (received < 0 && errno == EINTR);
  if (received < 0) return errno;
  // Taken first, whatever the message is worth: they are open.
  for (cmsghdr* each = CMSG_FIRSTHDR(&header); each != nullptr; each = CMSG_NXTHDR(&header, each)) {
    if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (each->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t index = 0; index < count; ++index) {
      int descriptor = -1;
      std::memcpy(&descriptor, CMSG_DATA(each) + index * sizeof descriptor, sizeof descriptor);
      message->descriptors.emplace_back(descriptor);
    }
  }
  const bool is_whole = (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
  if (is_whole && received > 0) {
    message->bytes.resize(static_cast<size_t>(received));
    return 0;
  }
  message->descriptors.clear();
  // No message is empty, so that an empty one is the end.
  return is_whole ? ENODATA : EPROTO;
}

}  // namespace backdoors::network
