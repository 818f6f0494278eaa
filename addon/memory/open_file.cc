#include "open_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "crc32c.h"
#include "fetch_ahead.h"
#include "guarded_copy.h"

namespace backdoors::memory {

namespace {

// Below this, what a guard and a mapping cost is not worth it.
constexpr size_t kMappedFromBytes = 64 << 10;

// Huge pages are mapped whole.
uint64_t PageBytes(int fd) {
  const auto page_bytes = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  struct statfs status;
  if (fstatfs(fd, &status) != 0 || status.f_type != HUGETLBFS_MAGIC) return page_bytes;
  return static_cast<uint64_t>(status.f_bsize);
}

bool IsMapped(const Mapping* mapping, const FilePart& part) {
  return mapping != nullptr && part.offset <= mapping->length() && part.length <= mapping->length() - part.offset;
}

}  // namespace

std::shared_ptr<OpenFile> OpenFile::Open(const std::string& path, Failure* failure) {
  constexpr int kFlags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  FileDescriptor fd(open(path.c_str(), O_RDWR | kFlags));
  const bool writable = static_cast<bool>(fd);
  if (!writable && (errno == EACCES || errno == EPERM || errno == EROFS)) {
    fd = FileDescriptor(open(path.c_str(), O_RDONLY | kFlags));
  }
  const bool is_folder = !fd && errno == EISDIR;
  if (!fd && !is_folder) {
    *failure = Failure::Call("open", errno, "Opening " + path, path);
    if (failure->details.error_number == ENOENT) failure->code = "REGION_NOT_FOUND";
    return nullptr;
  }
  struct stat status;
  if (is_folder || fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    failure->code = "INVALID_ARGUMENT";
    failure->message = path + " is not a file.";
    failure->details = {.path = path, .field = "path"};
    return nullptr;
  }
  const uint64_t page_bytes = PageBytes(fd.get());
  return std::shared_ptr<OpenFile>(new OpenFile(path, std::move(fd), writable, page_bytes));
}

int OpenFile::Length(uint64_t* length) const {
  if (closed_.load(std::memory_order_relaxed)) return EBADF;
  struct stat status;
  if (fstat(fd_.get(), &status) != 0) return errno;
  *length = static_cast<uint64_t>(status.st_size);
  return 0;
}

int OpenFile::Read(uint64_t offset, size_t length, uint8_t* target) const {
  if (closed_.load(std::memory_order_relaxed)) return EBADF;
  while (length > 0) {
    const ssize_t count = pread(fd_.get(), target, length, static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    if (count == 0) return ENODATA;
    const auto bytes = static_cast<size_t>(count);
    offset += bytes;
    target += bytes;
    length -= bytes;
  }
  return 0;
}

std::shared_ptr<Mapping> OpenFile::Mapped() {
  if (mapping_ != nullptr) return mapping_;
  uint64_t size = 0;
  if (Length(&size) != 0 || size == 0) return nullptr;
  mapping_ = Mapping::Map(fd_.get(), 0, size, size, false);
  return mapping_;
}

// With a mapping by copies out of it, otherwise, and where that fails, by system calls, which tell why.
int OpenFile::ReadParts(std::span<const FilePart> parts, const Mapping* mapping, uint8_t* target) const {
  std::optional<CopyGuard> guard;
  if (mapping != nullptr) guard.emplace();
  for (const FilePart& part : parts) {
    const auto& [offset, length, position] = part;
    if (IsMapped(mapping, part) && guard->Copy(target + position, mapping->data() + offset, length)) continue;
    const int error = Read(offset, length, target + position);
    if (error != 0) return error;
  }
  return 0;
}

int OpenFile::ReadSummed(std::span<const FilePart> parts, const Mapping* mapping, uint8_t* target, const PartSums& sums) const {
  std::optional<CopyGuard> guard;
  if (mapping != nullptr) guard.emplace();
  FetchAhead ahead(mapping == nullptr ? nullptr : mapping->data(), parts.first(mapping == nullptr ? 0 : parts.size()));
  for (size_t index = 0; index < parts.size(); ++index) {
    const auto& [offset, length, position] = parts[index];
    const size_t skipped = std::min(sums.skip, length);
    uint32_t crc = sums.seed;
    if (!IsMapped(mapping, parts[index]) || !guard->CopySummed(target + position, mapping->data() + offset, length, skipped, &crc, &ahead)) {
      const int error = Read(offset, length, target + position);
      if (error != 0) return error;
      crc = Crc32c(crc, target + position + skipped, length - skipped);
    }
    sums.crcs[index] = static_cast<int32_t>(crc);
  }
  FinishCopies();
  return 0;
}

std::shared_ptr<Mapping> OpenFile::MappedFor(std::span<const FilePart> parts) {
  size_t bytes = 0;
  for (const FilePart& part : parts) bytes += part.length;
  return bytes < kMappedFromBytes ? nullptr : Mapped();
}

int OpenFile::ReadMany(std::span<const FilePart> parts, uint8_t* target, const PartSums* sums) {
  if (closed_.load(std::memory_order_relaxed)) return EBADF;
  const Mapping* mapping = MappedFor(parts).get();
  const int failed = sums == nullptr ? ReadParts(parts, mapping, target) : ReadSummed(parts, mapping, target, *sums);
  return mapping == nullptr || failed != 0 ? failed : CheckWhole(parts);
}

int OpenFile::CheckWhole(std::span<const FilePart> parts) const {
  // Of the page in which a file ends, the rest can be copied, and is zeros.
  uint64_t size = 0;
  const int error = Length(&size);
  if (error != 0) return error;
  const bool is_whole = std::ranges::all_of(parts, [size](const FilePart& part) { return part.length == 0 || part.offset + part.length <= size; });
  return is_whole ? 0 : ENODATA;
}

int OpenFile::CheckWithin(uint64_t offset, size_t length) const {
  uint64_t size = 0;
  const int error = Length(&size);
  if (error != 0) return error;
  return offset <= size && length <= size - offset ? 0 : ENODATA;
}

int OpenFile::Write(uint64_t offset, size_t length, const uint8_t* bytes) const {
  // A write past the end would make the file longer instead of failing.
  const int error = CheckWithin(offset, length);
  if (error != 0) return error;
  while (length > 0) {
    const ssize_t count = pwrite(fd_.get(), bytes, length, static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    const auto written = static_cast<size_t>(count);
    offset += written;
    bytes += written;
    length -= written;
  }
  return 0;
}

int OpenFile::CompareAndSwap(uint64_t offset, uint64_t desired, uint64_t* word) const {
  const uint64_t page = offset / page_bytes_ * page_bytes_;
  void* data = mmap(nullptr, page_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), static_cast<off_t>(page));
  if (data == MAP_FAILED) return errno;
  // The length is looked at last, right before the access: the file would have to be cut off between these two
  // instructions to raise SIGBUS.
  const int error = CheckWithin(offset, sizeof(uint64_t));
  if (error == 0) {
    auto* target = reinterpret_cast<uint64_t*>(static_cast<uint8_t*>(data) + (offset - page));
    __atomic_compare_exchange_n(target, word, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  }
  munmap(data, page_bytes_);
  return error;
}

}  // namespace backdoors::memory
