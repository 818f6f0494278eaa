// Has the processor fetch what will be read soon. Parts of a few pages each, here and there in a mapping, are too short for it to
// see by itself what comes next: without this, most of the time of reading them is waiting.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "file_part.h"

namespace backdoors::memory {

class FetchAhead {
 public:
  // `base` is where the file's first byte is mapped. What is not mapped may be fetched: nothing comes of it.
  FetchAhead(const uint8_t* base, std::span<const FilePart> parts) : base_(reinterpret_cast<uintptr_t>(base)), parts_(parts) {
    Advance(kDistanceBytes);
  }

  // So many bytes more of the parts, in their order, have been read.
  void Advance(size_t bytes) noexcept {
    while (bytes > 0 && part_ < parts_.size()) {
      const size_t step = std::min(bytes, parts_[part_].length - done_);
      const uintptr_t from = base_ + parts_[part_].offset + done_;
      // A line that was begun has been fetched already.
      const uintptr_t first = done_ == 0 ? from / kLineBytes * kLineBytes : (from + kLineBytes - 1) / kLineBytes * kLineBytes;
      for (uintptr_t line = first; line < from + step; line += kLineBytes) __builtin_prefetch(reinterpret_cast<const void*>(line));
      bytes -= step;
      done_ += step;
      if (done_ < parts_[part_].length) continue;
      ++part_;
      done_ = 0;
    }
  }

 private:
  static constexpr size_t kLineBytes = 64;
  // As long as memory takes to answer, a copy goes on for about so much.
  static constexpr size_t kDistanceBytes = 4096;

  const uintptr_t base_;
  const std::span<const FilePart> parts_;
  size_t part_ = 0;
  size_t done_ = 0;
};

}  // namespace backdoors::memory
