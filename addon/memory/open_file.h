// A file that another process may cut off at any time. It is read and written by system calls, never through a mapping
// that stays, so that no access ends in SIGBUS.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "common/file_descriptor.h"
#include "failure.h"

namespace backdoors::memory {

// Of any thread. The descriptor stays open until the last user is gone, so that none of them ever reads a file that
// merely got the same number.
class OpenFile {
 public:
  // Opened for reading and writing where that is permitted. Null, and `failure` says why.
  static std::shared_ptr<OpenFile> Open(const std::string& path, Failure* failure);
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  const std::string& path() const { return path_; }
  bool writable() const { return writable_; }

  // From here on every access fails with EBADF.
  void Close() { closed_.store(true, std::memory_order_relaxed); }

  // Each returns 0 or errno; ENODATA where the bytes reach past the file's end.
  int Length(uint64_t* length) const;
  int Read(uint64_t offset, size_t length, uint8_t* target) const;
  int Write(uint64_t offset, size_t length, const uint8_t* bytes) const;
  // On 8 bytes at a multiple of 8, atomically with everybody who maps the file: `*word` is the expected value, and
  // becomes what was there.
  int CompareAndSwap(uint64_t offset, uint64_t desired, uint64_t* word) const;

 private:
  OpenFile(std::string path, FileDescriptor fd, bool writable, uint64_t page_bytes)
      : path_(std::move(path)), fd_(std::move(fd)), writable_(writable), page_bytes_(page_bytes) {}
  int CheckWithin(uint64_t offset, size_t length) const;

  const std::string path_;
  const FileDescriptor fd_;
  const bool writable_;
  const uint64_t page_bytes_;
  std::atomic<bool> closed_{false};
};

}  // namespace backdoors::memory
