// A segment that the dead machine had sent, to be sent once more: its client may never have got it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tcp_connection.h"

namespace backdoors::network {

class SentSegment {
 public:
  // Of the bytes that were sent and not acknowledged, those from `offset` on, as many as one segment takes; none at their end.
  SentSegment(const TcpConnection& connection, size_t offset);

  // A header of TCP and what follows it. The checksum is there for IPv4; that for IPv6 is the kernel's to fill in.
  std::span<const uint8_t> bytes() const { return bytes_; }
  size_t payload_bytes() const { return payload_bytes_; }

 private:
  std::vector<uint8_t> bytes_;
  size_t payload_bytes_ = 0;
};

}  // namespace backdoors::network
