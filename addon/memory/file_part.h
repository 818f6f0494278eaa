#pragma once

#include <cstddef>
#include <cstdint>

namespace backdoors::memory {

// `length` bytes at `offset` in the file, to be put at `position`.
struct FilePart {
  uint64_t offset;
  size_t length;
  size_t position;
};

}  // namespace backdoors::memory
