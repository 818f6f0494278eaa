// CRC32C (Castagnoli): the reflected polynomial 0x82f63b78, as iSCSI, ext4 and SCTP use it (RFC 3720, appendix B.4).
#pragma once

#include <cstddef>
#include <cstdint>

#include "fetch_ahead.h"

namespace backdoors::memory {

// Continues `crc`, the value of the bytes before (0 to begin), by the fastest means this processor has.
uint32_t Crc32c(uint32_t crc, const uint8_t* bytes, size_t length) noexcept;

// Copies, and continues `crc` by the bytes that were copied: each is loaded once, so that it is of what stands in `target`,
// whoever writes to `source` meanwhile. The two do not overlap. Takes less time than a copy of much memory, and then its CRC.
// `ahead` is told of what has been copied.
uint32_t CopyCrc32c(uint32_t crc, uint8_t* target, const uint8_t* source, size_t length, FetchAhead* ahead) noexcept;

// After a number of such copies: other threads that learn of them from now on find what was copied. (Waiting for each copy would take
// longer than the copy.)
void FinishCopies() noexcept;

// Crc32c by tables, on any processor.
uint32_t Crc32cBySoftware(uint32_t crc, const uint8_t* bytes, size_t length) noexcept;

// What Crc32c uses here: "sse4.2", "armv8" or "software".
const char* Crc32cMeans() noexcept;

}  // namespace backdoors::memory
