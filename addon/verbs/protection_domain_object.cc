#include "protection_domain_object.h"

#include "context_object.h"

namespace backdoors::verbs {

Napi::Function ProtectionDomainObject::Define(Napi::Env env) {
  return DefineClass(env, kName, {InstanceMethod<&ProtectionDomainObject::Close>("close")});
}

ProtectionDomainObject::ProtectionDomainObject(const Napi::CallbackInfo& info) : Wrapped(info) {
  auto context = ContextObject::Use(info.Env(), info[0], "context");
  if (context == nullptr) return;
  Failure failure;
  domain_ = ProtectionDomain::Allocate(std::move(context), &failure);
  if (domain_ == nullptr) {
    Throw(info.Env(), failure);
    return;
  }
  Tag(info);
}

std::shared_ptr<ProtectionDomain> ProtectionDomainObject::Use(napi_env env, napi_value value, const char* name) {
  const ProtectionDomainObject* object = From(env, value, name);
  if (object == nullptr) return nullptr;
  if (object->domain_ == nullptr) ThrowError(env, "CLOSED", "the protection domain is closed");
  return object->domain_;
}

}  // namespace backdoors::verbs
