// The ICMP message that makes a peer send again: RFC 6069 (TCP-LCD), which Linux follows (tcp_ld_RTO_revert).
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "tcp_connection.h"

namespace backdoors::network {

// "Host unreachable" or, for IPv6, "no route to destination" (RFC 792; RFC 4443, 3.1), about the peer's segment at `rcv_nxt`: the first
// that it has not seen acknowledged. It takes one step of its back-off back, and sends at once what is due by then.
class UnreachableMessage {
 public:
  explicit UnreachableMessage(const TcpConnection& connection);
  std::span<const uint8_t> bytes() const { return std::span(bytes_).first(length_); }

 private:
  void Append16(uint16_t value);
  void Append(const void* data, size_t length);

  // A header of ICMP, one of IPv6 and one of TCP.
  std::array<uint8_t, 8 + 40 + 20> bytes_ = {};
  size_t length_ = 0;
};

}  // namespace backdoors::network
