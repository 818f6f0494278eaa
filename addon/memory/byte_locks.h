// Open-file-description locks on bytes of a file (fcntl(2)). They end with their description, so with the object that
// holds them and with its process however that dies: no lock outlives its holder.
#pragma once

#include <fcntl.h>

#include <cerrno>
#include <cstdint>
#include <string>

#include "common/file_descriptor.h"

namespace backdoors::memory {

class ByteLocks {
 public:
  // A description of its own, of the same file: a mapping holds the one it was made from, and locks with it, for as
  // long as anybody uses the pages. Returns 0 or errno.
  int Open(int fd, bool writable) {
    if (fd_) return 0;
    const std::string path = "/proc/self/fd/" + std::to_string(fd);
    fd_ = FileDescriptor(open(path.c_str(), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC));
    return fd_ ? 0 : errno;
  }

  // 0; EAGAIN where somebody else holds a lock on any of the bytes; or another errno.
  int Lock(uint64_t offset, uint64_t length) { return Control(F_OFD_SETLK, F_WRLCK, offset, length, nullptr); }
  int Unlock(uint64_t offset, uint64_t length) { return Control(F_OFD_SETLK, F_UNLCK, offset, length, nullptr); }
  int IsLockedByOthers(uint64_t offset, uint64_t length, bool* locked) {
    return Control(F_OFD_GETLK, F_WRLCK, offset, length, locked);
  }

  void Close() { fd_.Reset(); }

 private:
  int Control(int command, int type, uint64_t offset, uint64_t length, bool* locked) {
    struct flock lock {};
    lock.l_type = static_cast<short>(type);
    lock.l_whence = SEEK_SET;
    lock.l_start = static_cast<off_t>(offset);
    lock.l_len = static_cast<off_t>(length);
    if (fcntl(fd_.get(), command, &lock) != 0) return errno == EACCES ? EAGAIN : errno;
    if (locked != nullptr) *locked = lock.l_type != F_UNLCK;
    return 0;
  }

  FileDescriptor fd_;
};

}  // namespace backdoors::memory
