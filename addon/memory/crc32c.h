// CRC32C (Castagnoli): the reflected polynomial 0x82f63b78, as iSCSI, ext4 and SCTP use it (RFC 3720, appendix B.4).
#pragma once

#include <cstddef>
#include <cstdint>

namespace backdoors::memory {

// Continues `crc`, the value of the bytes before (0 to begin), by the fastest means this processor has.
uint32_t Crc32c(uint32_t crc, const uint8_t* bytes, size_t length) noexcept;

// The same by tables, on any processor.
uint32_t Crc32cBySoftware(uint32_t crc, const uint8_t* bytes, size_t length) noexcept;

// What Crc32c uses here: "sse4.2", "armv8" or "software".
const char* Crc32cMeans() noexcept;

}  // namespace backdoors::memory
