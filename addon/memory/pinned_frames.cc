#include "pinned_frames.h"

#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

namespace backdoors::memory {

namespace {

// The most that the kernel takes as one registered buffer.
constexpr size_t kBufferBytes = size_t{1} << 30;

}  // namespace

int PinFrames(uint8_t* data, size_t length, FileDescriptor* ring, const char** call) {
  io_uring_params params{};
  FileDescriptor fresh(static_cast<int>(syscall(SYS_io_uring_setup, 1, &params)));
  if (!fresh) {
    *call = "io_uring_setup";
    return errno;
  }
  std::vector<iovec> buffers;
  for (size_t at = 0; at < length; at += kBufferBytes) buffers.push_back({data + at, std::min(kBufferBytes, length - at)});
  if (syscall(SYS_io_uring_register, fresh.get(), IORING_REGISTER_BUFFERS, buffers.data(), buffers.size()) != 0) {
    *call = "io_uring_register";
    return errno;
  }
  *ring = std::move(fresh);
  return 0;
}

}  // namespace backdoors::memory
