// One message of a SOCK_SEQPACKET socket, with the descriptors that go with it: see SCM_RIGHTS in unix(7).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/file_descriptor.h"

namespace backdoors::network {

constexpr size_t kMostMessageBytes = 64 * 1024;
constexpr size_t kMostDescriptors = 64;

struct DescriptorMessage {
  std::vector<uint8_t> bytes = {};
  std::vector<FileDescriptor> descriptors = {};
};

// Never waits. Returns 0 or an errno (EAGAIN: the peer has not taken what was sent before).
int SendMessage(int socket_fd, std::span<const uint8_t> bytes, std::span<const int> descriptors);

// Never waits. Returns 0 or an errno: EAGAIN where there is none, ENODATA at the peer's end, EPROTO for what is too large; the
// descriptors of such a message are closed.
int ReceiveMessage(int socket_fd, DescriptorMessage* message);

}  // namespace backdoors::network
