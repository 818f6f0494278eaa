#include "unreachable_message.h"

#include <arpa/inet.h>

#include <cstring>

#include "checksum.h"

namespace backdoors::network {

namespace {

constexpr uint8_t kIcmpUnreachable = 3;
constexpr uint8_t kIcmpHostUnreachable = 1;
constexpr uint8_t kIcmp6Unreachable = 1;
constexpr uint8_t kIcmp6NoRoute = 0;
constexpr size_t kIcmpHeaderBytes = 8;
constexpr size_t kIpv4HeaderBytes = 20;
constexpr size_t kTcpHeaderBytes = 20;
constexpr uint8_t kHopLimit = 64;
constexpr uint8_t kTcpAck = 0x10;

void Put16(uint8_t* at, uint16_t value) {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}

}  // namespace

void UnreachableMessage::Append(const void* data, size_t length) {
  std::memcpy(bytes_.data() + length_, data, length);
  length_ += length;
}

void UnreachableMessage::Append16(uint16_t value) {
  Put16(bytes_.data() + length_, value);
  length_ += sizeof value;
}

UnreachableMessage::UnreachableMessage(const TcpConnection& connection) {
  const bool is_ipv4 = connection.local.ss_family == AF_INET;
  bytes_[0] = is_ipv4 ? kIcmpUnreachable : kIcmp6Unreachable;
  bytes_[1] = is_ipv4 ? kIcmpHostUnreachable : kIcmp6NoRoute;
  length_ = kIcmpHeaderBytes;
  // What is quoted went from the peer to here.
  uint16_t ports[2];
  if (is_ipv4) {
    const auto& from = reinterpret_cast<const sockaddr_in&>(connection.remote);
    const auto& to = reinterpret_cast<const sockaddr_in&>(connection.local);
    ports[0] = ntohs(from.sin_port);
    ports[1] = ntohs(to.sin_port);
    Append16(0x4500);
    Append16(kIpv4HeaderBytes + kTcpHeaderBytes);
    Append16(0);
    Append16(0x4000);
    Append16(static_cast<uint16_t>(kHopLimit << 8 | IPPROTO_TCP));
    Append16(0);
    Append(&from.sin_addr, sizeof from.sin_addr);
    Append(&to.sin_addr, sizeof to.sin_addr);
    uint8_t* header = bytes_.data() + kIcmpHeaderBytes;
    Put16(header + 10, Checksum(SumWords({header, kIpv4HeaderBytes})));
  } else {
    const auto& from = reinterpret_cast<const sockaddr_in6&>(connection.remote);
    const auto& to = reinterpret_cast<const sockaddr_in6&>(connection.local);
    ports[0] = ntohs(from.sin6_port);
    ports[1] = ntohs(to.sin6_port);
    Append16(0x6000);
    Append16(0);
    Append16(kTcpHeaderBytes);
    Append16(static_cast<uint16_t>(IPPROTO_TCP << 8 | kHopLimit));
    Append(&from.sin6_addr, sizeof from.sin6_addr);
    Append(&to.sin6_addr, sizeof to.sin6_addr);
  }
  Append16(ports[0]);
  Append16(ports[1]);
  Append16(static_cast<uint16_t>(connection.rcv_nxt >> 16));
  Append16(static_cast<uint16_t>(connection.rcv_nxt));
  Append16(static_cast<uint16_t>(connection.snd_nxt >> 16));
  Append16(static_cast<uint16_t>(connection.snd_nxt));
  Append16(static_cast<uint16_t>(kTcpHeaderBytes / 4 << 12 | kTcpAck));
  length_ += 6;
  // The kernel fills in that of ICMPv6.
  if (is_ipv4) Put16(bytes_.data() + 2, Checksum(SumWords(bytes())));
}

}  // namespace backdoors::network
