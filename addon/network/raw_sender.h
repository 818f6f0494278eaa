// Packets that no socket of the kernel's would send, from addresses that need not be this machine's: see raw(7).
#pragma once

#include <netinet/in.h>

#include <cstdint>
#include <span>

#include "common/file_descriptor.h"

namespace backdoors::network {

// Sends what stands behind the header of IP. One socket for each family, opened when it is first needed.
class RawSender {
 public:
  enum class Kind { kIcmp, kTcp };
  explicit RawSender(Kind kind) : kind_(kind) {}

  // A message with its checksum, which over IPv6 is the kernel's to fill in. Never waits. Returns 0 or an errno, and in `*call`
  // the name of the call that failed.
  int Send(const sockaddr_storage& from, const sockaddr_storage& to, std::span<const uint8_t> message, const char** call);

 private:
  int Open(sa_family_t family, FileDescriptor* fd, const char** call);

  const Kind kind_;
  FileDescriptor ipv4_;
  FileDescriptor ipv6_;
};

}  // namespace backdoors::network
