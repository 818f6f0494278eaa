// A file that another process may cut off at any time. It is read and written by system calls, and, where much is read,
// by copies that are guarded (guarded_copy.h), so that no access ends in SIGBUS.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "common/file_descriptor.h"
#include "common/mapping.h"
#include "failure.h"
#include "file_part.h"

namespace backdoors::memory {

// What is wanted of each part beside its bytes: the CRC32C of all but the first `skip`, continuing from `seed`.
struct PartSums {
  size_t skip;
  uint32_t seed;
  int32_t* crcs;
};

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

  bool is_closed() const { return closed_.load(std::memory_order_relaxed); }
  // From here on every access fails with EBADF.
  void Close() { closed_.store(true, std::memory_order_relaxed); }

  // Each returns 0 or errno; ENODATA where the bytes reach past the file's end.
  int Length(uint64_t* length) const;
  int Read(uint64_t offset, size_t length, uint8_t* target) const;
  // As many reads at once. A system call copies page by page, which can take several times as long as a copy out of a
  // mapping; so the file is mapped as soon as much of it is read. Of one thread at a time.
  int ReadMany(std::span<const FilePart> parts, uint8_t* target, const PartSums* sums = nullptr);
  // All of the file, for copies under a CopyGuard; null where it cannot be mapped. Of the same thread as ReadMany.
  std::shared_ptr<Mapping> Mapped();
  // The same; null where the parts are so few bytes that it is not worth it.
  std::shared_ptr<Mapping> MappedFor(std::span<const FilePart> parts);
  // What ReadMany does with sums, in two steps: the copies, of any thread, and, where they were out of a mapping, whether the parts lie in
  // the file as it is now.
  int ReadSummed(std::span<const FilePart> parts, const Mapping* mapping, uint8_t* target, const PartSums& sums) const;
  int CheckWhole(std::span<const FilePart> parts) const;
  int Write(uint64_t offset, size_t length, const uint8_t* bytes) const;
  // On 8 bytes at a multiple of 8, atomically with everybody who maps the file: `*word` is the expected value, and
  // becomes what was there.
  int CompareAndSwap(uint64_t offset, uint64_t desired, uint64_t* word) const;

 private:
  OpenFile(std::string path, FileDescriptor fd, bool writable, uint64_t page_bytes)
      : path_(std::move(path)), fd_(std::move(fd)), writable_(writable), page_bytes_(page_bytes) {}
  int CheckWithin(uint64_t offset, size_t length) const;
  int ReadParts(std::span<const FilePart> parts, const Mapping* mapping, uint8_t* target) const;

  const std::string path_;
  const FileDescriptor fd_;
  const bool writable_;
  const uint64_t page_bytes_;
  std::atomic<bool> closed_{false};
  std::shared_ptr<Mapping> mapping_;
};

}  // namespace backdoors::memory
