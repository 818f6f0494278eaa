// `ProtectionDomain` of src/native/verbs.ts.
#pragma once

#include <memory>

#include "common/wrapped.h"
#include "protection_domain.h"

namespace backdoors::verbs {

class ProtectionDomainObject : public Wrapped<ProtectionDomainObject> {
 public:
  static constexpr napi_type_tag kTypeTag = {0x52c8e9170ab64d3e, 0x8f04a7b1c6d95e23};
  static constexpr const char* kName = "ProtectionDomain";
  static Napi::Function Define(Napi::Env env);

  explicit ProtectionDomainObject(const Napi::CallbackInfo& info);

  // Null after throwing CLOSED.
  static std::shared_ptr<ProtectionDomain> Use(napi_env env, napi_value value, const char* name);
  void CloseResource() noexcept override { domain_.reset(); }

 private:
  void Close(const Napi::CallbackInfo&) { CloseResource(); }

  std::shared_ptr<ProtectionDomain> domain_;
};

}  // namespace backdoors::verbs
