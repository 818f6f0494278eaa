// Copies out of pages that may be gone by then: of a file that another process cuts off while it is mapped here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fetch_ahead.h"

namespace backdoors::memory {

// Copies made while one exists may fail instead of ending the process. Any number may exist at a time, on any thread;
// what others do with SIGBUS stays as it is. Cheap where many copies are made under one.
class CopyGuard {
 public:
  CopyGuard();
  ~CopyGuard();
  CopyGuard(const CopyGuard&) = delete;
  CopyGuard& operator=(const CopyGuard&) = delete;

  // False where a page of `source` is not there; `target` is then undefined. `source` and `target` do not overlap.
  bool Copy(uint8_t* target, const uint8_t* source, size_t length) const;
  // The same, and continues `*crc` by all but the first `skipped` bytes, as CopyCrc32c does; where the copy fails, it is as it was.
  bool CopySummed(uint8_t* target, const uint8_t* source, size_t length, size_t skipped, uint32_t* crc,
                  FetchAhead* ahead) const;
};

}  // namespace backdoors::memory
