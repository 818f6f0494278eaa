// Making and opening what a SharedMemory maps: a file, a memfd, or a DAX device.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "common/file_descriptor.h"
#include "failure.h"

namespace backdoors::memory {

struct SharedFileOptions {
  std::string path;
  bool create = false;
  bool memfd = false;
  bool writable = true;
  bool huge_pages = false;
  // In bytes; 0 where it was not given.
  uint64_t length = 0;
  mode_t mode = 0600;
};

struct SharedFile {
  FileDescriptor fd;
  // What is offered, in bytes.
  uint64_t length = 0;
  // What has to be mapped for it: more where pages are larger.
  uint64_t mapped_length = 0;
  // A file that this call made, to be removed should a later step fail.
  bool is_new_file = false;
};

// A file that is made is allocated in full, so that no access ever finds the disk or memory full; a memfd can also
// neither shrink nor grow any more.
std::optional<SharedFile> OpenSharedFile(const SharedFileOptions& options, Failure* failure);

}  // namespace backdoors::memory
