// A TCP connection as another kernel had it: TcpConnection of src/recovery/tcp/connection.ts, whose names these are.
#pragma once

#include <linux/tcp.h>
#include <netinet/in.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace backdoors::network {

struct WindowScale {
  uint8_t send;
  uint8_t receive;
};

struct TcpConnection {
  // Both of one family: IPv4, or IPv6.
  sockaddr_storage local = {};
  sockaddr_storage remote = {};
  uint32_t rcv_nxt = 0;
  uint32_t snd_una = 0;
  uint32_t snd_nxt = 0;
  std::vector<uint8_t> unread = {};
  std::vector<uint8_t> unacknowledged = {};
  uint32_t mss_clamp = 0;
  std::optional<WindowScale> window_scale = {};
  bool sack = false;
  // What the clock of the dead kernel is to go on from.
  std::optional<uint32_t> timestamp = {};
  tcp_repair_window window = {};

  // How many bytes of `unacknowledged` were sent. Sequence numbers go round.
  size_t sent() const { return static_cast<uint32_t>(snd_nxt - snd_una); }
};

constexpr socklen_t AddressBytes(const sockaddr_storage& address) {
  return address.ss_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
}

}  // namespace backdoors::network
