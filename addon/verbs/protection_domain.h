// A protection domain: what may be used together.
#pragma once

#include <infiniband/verbs.h>

#include <memory>

#include "context.h"

namespace backdoors::verbs {

class ProtectionDomain {
 public:
  static std::shared_ptr<ProtectionDomain> Allocate(std::shared_ptr<Context> context, Failure* failure);
  ~ProtectionDomain();
  ProtectionDomain(const ProtectionDomain&) = delete;
  ProtectionDomain& operator=(const ProtectionDomain&) = delete;

  ibv_pd* get() const { return domain_; }
  Context& context() const { return *context_; }

 private:
  ProtectionDomain(std::shared_ptr<Context> context, ibv_pd* domain) : context_(std::move(context)), domain_(domain) {}

  std::shared_ptr<Context> context_;
  ibv_pd* domain_;
};

}  // namespace backdoors::verbs
