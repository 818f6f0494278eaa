// The checksum of the Internet protocols (RFC 1071).
#pragma once

#include <cstdint>
#include <span>

namespace backdoors::network {

// The sum of the bytes as 16-bit words, the last of which may lack its second byte, on top of `sum`.
inline uint32_t SumWords(std::span<const uint8_t> bytes, uint32_t sum = 0) {
  for (size_t at = 0; at < bytes.size(); at += 2) {
    sum += static_cast<uint32_t>(bytes[at] << 8 | (at + 1 < bytes.size() ? bytes[at + 1] : 0));
  }
  return sum;
}

inline uint16_t Checksum(uint32_t sum) {
  while (sum > UINT16_MAX) sum = (sum & UINT16_MAX) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

}  // namespace backdoors::network
