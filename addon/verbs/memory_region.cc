#include "memory_region.h"

#include <sys/mman.h>

#include <cerrno>
#include <string>

namespace backdoors::verbs {

std::shared_ptr<OwnPages> OwnPages::Map(size_t length, Failure* failure) {
  void* data = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    *failure = CallFailed("mmap", errno, "allocating " + std::to_string(length) + " bytes");
    return nullptr;
  }
  return std::shared_ptr<OwnPages>(new OwnPages(static_cast<uint8_t*>(data), length));
}

OwnPages::~OwnPages() { munmap(data_, length_); }

std::shared_ptr<MemoryRegion> MemoryRegion::Register(std::shared_ptr<ProtectionDomain> domain, uint8_t* data,
                                                     size_t length, int access, std::shared_ptr<void> pages,
                                                     Failure* failure) {
  // A plain function call: the header's macro of this name would look at flags that are not used here.
  ibv_mr* region = (ibv_reg_mr)(domain->get(), data, length, access);
  if (region == nullptr) {
    *failure = CallFailed("ibv_reg_mr", errno, "registering " + std::to_string(length) + " bytes of memory");
    failure->details.length = length;
    return nullptr;
  }
  return std::shared_ptr<MemoryRegion>(new MemoryRegion(std::move(domain), std::move(pages), region));
}

MemoryRegion::~MemoryRegion() { ibv_dereg_mr(region_); }

}  // namespace backdoors::verbs
