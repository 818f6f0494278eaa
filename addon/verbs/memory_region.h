// A memory region: a piece of memory the device may reach, with what it may do there.
#pragma once

#include <infiniband/verbs.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "protection_domain.h"

namespace backdoors::verbs {

// Page-aligned memory, unmapped once neither a region nor an ArrayBuffer uses it.
class OwnPages {
 public:
  static std::shared_ptr<OwnPages> Map(size_t length, Failure* failure);
  ~OwnPages();
  OwnPages(const OwnPages&) = delete;
  OwnPages& operator=(const OwnPages&) = delete;

  uint8_t* data() const { return data_; }

 private:
  OwnPages(uint8_t* data, size_t length) : data_(data), length_(length) {}

  uint8_t* data_;
  size_t length_;
};

class MemoryRegion {
 public:
  // `pages` is what keeps the memory mapped.
  static std::shared_ptr<MemoryRegion> Register(std::shared_ptr<ProtectionDomain> domain, uint8_t* data, size_t length,
                                                int access, std::shared_ptr<void> pages, Failure* failure);
  ~MemoryRegion();
  MemoryRegion(const MemoryRegion&) = delete;
  MemoryRegion& operator=(const MemoryRegion&) = delete;

  uint8_t* data() const { return static_cast<uint8_t*>(region_->addr); }
  size_t length() const { return region_->length; }
  uint32_t lkey() const { return region_->lkey; }
  uint32_t rkey() const { return region_->rkey; }

 private:
  MemoryRegion(std::shared_ptr<ProtectionDomain> domain, std::shared_ptr<void> pages, ibv_mr* region)
      : domain_(std::move(domain)), pages_(std::move(pages)), region_(region) {}

  std::shared_ptr<ProtectionDomain> domain_;
  std::shared_ptr<void> pages_;
  ibv_mr* region_;
};

}  // namespace backdoors::verbs
