#include "filled_pages.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/arguments.h"
#include "failure.h"

namespace backdoors::memory {

namespace {

constexpr size_t kPageBytes = 4096;

// The first word tells of most pages. All zeros is: it begins with one, and each byte is the one before it.
bool IsFilled(std::span<const uint8_t> page) {
  return page[0] != 0 || std::memcmp(page.data(), page.data() + 1, page.size() - 1) != 0;
}

// Returns 0, or the errno.
int WriteAll(int fd, uint64_t offset, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    offset += static_cast<uint64_t>(written);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return 0;
}

// writeFilledPages(fd, path, offset, bytes): in the caller's thread, as one who exports a machine has nothing else to do meanwhile.
Napi::Value WriteFilledPagesCallback(const Napi::CallbackInfo& info) {
  const napi_env env = info.Env();
  const auto fd = ReadInteger(env, info[0], "fd", 0, INT32_MAX);
  if (!fd) return {};
  const auto path = ReadString(env, info[1], "path", kMaxPathBytes);
  if (!path) return {};
  const auto offset = ReadInteger(env, info[2], "offset", 0, kMaxSafeInteger);
  if (!offset) return {};
  const auto bytes = ReadBytes(env, info[3], "bytes");
  if (!bytes) return {};
  const auto written = WriteFilledPages(static_cast<int>(*fd), static_cast<uint64_t>(*offset), *bytes);
  if (written.error_number != 0) {
    Failure::Call("pwrite", written.error_number, "Writing " + *path, *path).Throw(env);
    return {};
  }
  return Napi::Number::New(env, static_cast<double>(written.bytes));
}

}  // namespace

WrittenPages WriteFilledPages(int fd, uint64_t offset, std::span<const uint8_t> bytes) {
  WrittenPages written;
  for (size_t at = 0; at < bytes.size();) {
    size_t end = at;
    while (end < bytes.size() && IsFilled(bytes.subspan(end, std::min(kPageBytes, bytes.size() - end)))) {
      end += std::min(kPageBytes, bytes.size() - end);
    }
    if (end == at) {
      at += kPageBytes;
      continue;
    }
    written.error_number = WriteAll(fd, offset + at, bytes.subspan(at, end - at));
    if (written.error_number != 0) return written;
    written.bytes += end - at;
    at = end;
  }
  return written;
}

void DefineFilledPages(Napi::Env env, Napi::Object exports) {
  exports.Set("writeFilledPages", Napi::Function::New<WriteFilledPagesCallback>(env, "writeFilledPages"));
}

}  // namespace backdoors::memory
