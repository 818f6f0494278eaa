#include "protection_domain.h"

#include <cerrno>

namespace backdoors::verbs {

std::shared_ptr<ProtectionDomain> ProtectionDomain::Allocate(std::shared_ptr<Context> context, Failure* failure) {
  ibv_pd* domain = ibv_alloc_pd(context->get());
  if (domain == nullptr) {
    *failure = CallFailed("ibv_alloc_pd", errno, "allocating a protection domain on " + context->name());
    return nullptr;
  }
  return std::shared_ptr<ProtectionDomain>(new ProtectionDomain(std::move(context), domain));
}

ProtectionDomain::~ProtectionDomain() { ibv_dealloc_pd(domain_); }

}  // namespace backdoors::verbs
