// Pages mapped into this process, unmapped when the last of those who use them lets go: a buffer of JavaScript, a
// beat thread, a memory region of a device.
#pragma once

#include <node_api.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace backdoors {

class Mapping {
 public:
  // Null after a failure, which errno tells. `mapped_length` may exceed `length` where pages are larger.
  static std::shared_ptr<Mapping> Map(int fd, uint64_t offset, size_t length, size_t mapped_length, bool writable) {
    const int protection = PROT_READ | (writable ? PROT_WRITE : 0);
    void* data = mmap(nullptr, mapped_length, protection, MAP_SHARED, fd, static_cast<off_t>(offset));
    if (data == MAP_FAILED) return nullptr;
    return std::shared_ptr<Mapping>(new Mapping(static_cast<uint8_t*>(data), length, mapped_length, writable));
  }
  ~Mapping() { munmap(data_, mapped_length_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  uint8_t* data() const { return data_; }
  // What was asked for, in bytes.
  size_t length() const { return length_; }
  size_t mapped_length() const { return mapped_length_; }
  bool writable() const { return writable_; }

 private:
  Mapping(uint8_t* data, size_t length, size_t mapped_length, bool writable)
      : data_(data), length_(length), mapped_length_(mapped_length), writable_(writable) {}

  uint8_t* data_;
  size_t length_;
  size_t mapped_length_;
  bool writable_;
};

// Both targets of the addon use the pages of a SharedMemory, though each has its own classes. So the object carries
// them in its property `pages`, as an opaque object that both know by its tag.
napi_value LendPages(napi_env env, const std::shared_ptr<Mapping>& pages);

// The pages behind a SharedMemory. Null, with nothing thrown, where `object` is none or is closed.
std::shared_ptr<Mapping> BorrowPages(napi_env env, napi_value object);

}  // namespace backdoors
