#include "sent_segment.h"

#include <algorithm>

#include "checksum.h"

namespace backdoors::network {

namespace {

constexpr size_t kHeaderBytes = 20;
constexpr size_t kTimestampBytes = 12;
constexpr size_t kChecksumAt = 16;
constexpr size_t kLeastPayloadBytes = 64;
constexpr uint8_t kAckAndPush = 0x18;

void Append16(std::vector<uint8_t>* bytes, uint32_t value) {
  bytes->push_back(static_cast<uint8_t>(value >> 8));
  bytes->push_back(static_cast<uint8_t>(value));
}

void Append32(std::vector<uint8_t>* bytes, uint32_t value) {
  Append16(bytes, value >> 16);
  Append16(bytes, value & UINT16_MAX);
}

uint16_t PortOf(const sockaddr_storage& end) {
  return ntohs(end.ss_family == AF_INET ? reinterpret_cast<const sockaddr_in&>(end).sin_port
                                        : reinterpret_cast<const sockaddr_in6&>(end).sin6_port);
}

// What the peer may still send, in the unit agreed to.
uint32_t WindowOf(const TcpConnection& connection) {
  const uint32_t shift = connection.window_scale ? connection.window_scale->receive : 0;
  return std::min<uint32_t>(connection.window.rcv_wnd >> shift, UINT16_MAX);
}

// Of the two addresses and what stands beside them (RFC 9293, 3.1).
uint32_t SumOfPseudoHeader(const TcpConnection& connection, size_t length) {
  const auto sum = [](const sockaddr_storage& end, uint32_t before) {
    const in_addr& address = reinterpret_cast<const sockaddr_in&>(end).sin_addr;
    return SumWords({reinterpret_cast<const uint8_t*>(&address), sizeof address}, before);
  };
  return sum(connection.local, sum(connection.remote, IPPROTO_TCP + static_cast<uint32_t>(length)));
}

}  // namespace

SentSegment::SentSegment(const TcpConnection& connection, size_t offset) {
  const size_t options = connection.timestamp ? kTimestampBytes : 0;
  const size_t room = std::max<size_t>(connection.mss_clamp, kLeastPayloadBytes + options) - options;
  payload_bytes_ = std::min(room, connection.sent() - offset);
  bytes_.reserve(kHeaderBytes + options + payload_bytes_);
  Append16(&bytes_, PortOf(connection.local));
  Append16(&bytes_, PortOf(connection.remote));
  Append32(&bytes_, connection.snd_una + static_cast<uint32_t>(offset));
  Append32(&bytes_, connection.rcv_nxt);
  Append16(&bytes_, static_cast<uint32_t>((kHeaderBytes + options) / 4 << 12 | kAckAndPush));
  Append16(&bytes_, WindowOf(connection));
  Append32(&bytes_, 0);
  if (connection.timestamp) {
    // Two options that do nothing, so that the values lie on a multiple of 4 (RFC 7323, appendix A); nothing is echoed.
    Append32(&bytes_, 0x0101080a);
    Append32(&bytes_, *connection.timestamp);
    Append32(&bytes_, 0);
  }
  const auto payload = std::span(connection.unacknowledged).subspan(offset, payload_bytes_);
  bytes_.insert(bytes_.end(), payload.begin(), payload.end());
  if (connection.local.ss_family != AF_INET) return;
  const uint16_t checksum = Checksum(SumWords(bytes_, SumOfPseudoHeader(connection, bytes_.size())));
  bytes_[kChecksumAt] = static_cast<uint8_t>(checksum >> 8);
  bytes_[kChecksumAt + 1] = static_cast<uint8_t>(checksum);
}

}  // namespace backdoors::network
