// Writing memory to a sparse file: pages of zeros are left out.
#pragma once

#include <napi.h>

#include <cstdint>
#include <span>

namespace backdoors::memory {

// Bytes written, and the errno of the write that failed, or 0.
struct WrittenPages {
  uint64_t bytes = 0;
  int error_number = 0;
};

// Writes each page of `bytes` that is not all zeros at its place behind `offset`; pages are counted from the first byte. Neighbours go
// by one call.
WrittenPages WriteFilledPages(int fd, uint64_t offset, std::span<const uint8_t> bytes);

void DefineFilledPages(Napi::Env env, Napi::Object exports);

}  // namespace backdoors::memory
