#include "shared_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>

namespace backdoors::memory {

namespace {

constexpr uint64_t kHugePageBytes = uint64_t{2} << 20;

uint64_t RoundUp(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

// MemAvailable of /proc/meminfo, in bytes; as much as can be where it cannot be read.
uint64_t AvailableMemory() {
  const std::unique_ptr<FILE, int (*)(FILE*)> info(fopen("/proc/meminfo", "re"), fclose);
  char line[128];
  unsigned long long kib = 0;
  while (info != nullptr && fgets(line, sizeof line, info.get()) != nullptr) {
    if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1) return kib * 1024;
  }
  return UINT64_MAX;
}

// The kernel gives a file in memory whatever is asked for, and kills processes when nothing is left.
bool IsBeyondMemory(int fd, uint64_t length) {
  struct statfs system;
  return fstatfs(fd, &system) == 0 && system.f_type == TMPFS_MAGIC && length > AvailableMemory();
}

// posix_fallocate is not interrupted for good by a signal that comes often, for it goes on where it was.
int Allocate(int fd, uint64_t length) {
  if (IsBeyondMemory(fd, length)) return ENOMEM;
  int error;
  do {
    error = posix_fallocate(fd, 0, static_cast<off_t>(length));
  } while (error == EINTR);
  return error;
}

std::optional<SharedFile> CreateFile(const SharedFileOptions& options, Failure* failure) {
  const char* path = options.path.c_str();
  SharedFile file;
  file.fd = FileDescriptor(open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.fd) {
    if (errno != EEXIST) {
      *failure = Failure::Call("open", errno, "Creating " + options.path, options.path);
    } else {
      failure->code = "REGION_EXISTS";
      failure->message = options.path + " exists already; open it, or remove it first.";
      failure->details = {.path = options.path};
    }
    return std::nullopt;
  }
  file.is_new_file = true;
  file.length = file.mapped_length = options.length;
  const char* call = "posix_fallocate";
  int error = Allocate(file.fd.get(), options.length);
  // The umask is not to take away what the caller asked for.
  if (error == 0 && fchmod(file.fd.get(), options.mode) != 0) {
    call = "fchmod";
    error = errno;
  }
  if (error == 0) return file;
  unlink(path);
  const std::string doing = "Allocating " + std::to_string(options.length) + " bytes for " + options.path;
  *failure = Failure::Call(call, error, doing, options.path);
  failure->details.length = options.length;
  return std::nullopt;
}

std::optional<SharedFile> CreateMemfd(const SharedFileOptions& options, Failure* failure) {
  const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | (options.huge_pages ? MFD_HUGETLB | MFD_HUGE_2MB : 0u);
  const uint64_t allocated = options.huge_pages ? RoundUp(options.length, kHugePageBytes) : options.length;
  SharedFile file;
  file.length = options.length;
  file.mapped_length = allocated;
  file.fd = FileDescriptor(memfd_create(options.path.c_str(), flags));
  const char* call = "memfd_create";
  int error = file.fd ? 0 : errno;
  if (error == 0 && ftruncate(file.fd.get(), static_cast<off_t>(allocated)) != 0) {
    call = "ftruncate";
    error = errno;
  }
  if (error == 0) {
    call = "posix_fallocate";
    error = Allocate(file.fd.get(), allocated);
  }
  if (error == 0 && fcntl(file.fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    call = "fcntl(F_ADD_SEALS)";
    error = errno;
  }
  if (error == 0) return file;
  const std::string doing = "Making a memfd of " + std::to_string(allocated) + " bytes";
  *failure = Failure::Call(call, error, doing, options.path);
  failure->details.length = allocated;
  if (options.huge_pages) {
    failure->message += " Huge pages have to be set aside: sysctl vm.nr_hugepages=" +
                        std::to_string(allocated / kHugePageBytes) + " or more.";
  }
  return std::nullopt;
}

// An attribute of a character device in sysfs, as a number; 0 where there is none.
uint64_t DeviceAttribute(dev_t device, const char* name) {
  char path[96];
  std::snprintf(path, sizeof path, "/sys/dev/char/%u:%u/%s", major(device), minor(device), name);
  const FileDescriptor fd(open(path, O_RDONLY | O_CLOEXEC));
  char text[32] = {};
  unsigned long long number = 0;
  if (fd && read(fd.get(), text, sizeof text - 1) > 0) std::sscanf(text, "%llu", &number);
  return number;
}

bool MeasureDevice(const struct stat& status, SharedFile* file) {
  file->length = DeviceAttribute(status.st_rdev, "size");
  const uint64_t alignment = DeviceAttribute(status.st_rdev, "align");
  // Pages of the device are mapped whole.
  file->mapped_length = alignment > 1 ? file->length / alignment * alignment : file->length;
  file->length = file->mapped_length;
  return file->length > 0;
}

Failure NotMappable(const std::string& path) {
  Failure failure;
  failure.code = "INVALID_ARGUMENT";
  failure.message = path + " is neither a file nor a DAX device.";
  failure.details = {.path = path, .field = "path"};
  return failure;
}

Failure OpenFailed(const SharedFileOptions& options, int error) {
  if (error == EISDIR) return NotMappable(options.path);
  if (error != ENOENT) return Failure::Call("open", error, "Opening " + options.path, options.path);
  Failure failure;
  failure.code = "REGION_NOT_FOUND";
  failure.message = options.path + " does not exist; is the daemon that makes it running?";
  failure.details = {.path = options.path};
  return failure;
}

std::optional<SharedFile> OpenExisting(const SharedFileOptions& options, Failure* failure) {
  SharedFile file;
  // O_NONBLOCK: opening a pipe by mistake must not wait for somebody to open its other end.
  const int flags = (options.writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  file.fd = FileDescriptor(open(options.path.c_str(), flags));
  if (!file.fd) {
    *failure = OpenFailed(options, errno);
    return std::nullopt;
  }
  struct stat status;
  if (fstat(file.fd.get(), &status) != 0) {
    *failure = Failure::Call("fstat", errno, "Opening " + options.path, options.path);
    return std::nullopt;
  }
  if (S_ISREG(status.st_mode)) {
    file.length = file.mapped_length = static_cast<uint64_t>(status.st_size);
  } else if (!S_ISCHR(status.st_mode) || !MeasureDevice(status, &file)) {
    *failure = NotMappable(options.path);
    return std::nullopt;
  }
  if (file.length == 0 || file.length < options.length) {
    failure->code = "REGION_TRUNCATED";
    failure->message = options.path + " holds " + std::to_string(file.length) + " bytes, and at least " +
                       std::to_string(options.length == 0 ? 1 : options.length) +
                       " are needed; it is still being made, or has been cut off.";
    failure->details = {.length = file.length, .path = options.path};
    return std::nullopt;
  }
  return file;
}

}  // namespace

std::optional<SharedFile> OpenSharedFile(const SharedFileOptions& options, Failure* failure) {
  if (options.memfd) return CreateMemfd(options, failure);
  return options.create ? CreateFile(options, failure) : OpenExisting(options, failure);
}

}  // namespace backdoors::memory
