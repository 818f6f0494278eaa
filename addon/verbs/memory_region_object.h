// `MemoryRegion` of src/native/verbs.ts.
#pragma once

#include <memory>

#include "common/wrapped.h"
#include "memory_region.h"

namespace backdoors::verbs {

class MemoryRegionObject : public Wrapped<MemoryRegionObject> {
 public:
  static constexpr napi_type_tag kTypeTag = {0xe3790bd5f8214ca6, 0xb16a4c0e9d7738f1};
  static constexpr const char* kName = "MemoryRegion";
  static Napi::Function Define(Napi::Env env);

  explicit MemoryRegionObject(const Napi::CallbackInfo& info);

  // Null after throwing CLOSED.
  static std::shared_ptr<MemoryRegion> Use(napi_env env, napi_value value, const char* name);
  void CloseResource() noexcept override { region_.reset(); }

 private:
  Napi::Value Buffer(const Napi::CallbackInfo& info);
  Napi::Value Length(const Napi::CallbackInfo& info);
  Napi::Value Address(const Napi::CallbackInfo& info);
  Napi::Value LocalKey(const Napi::CallbackInfo& info);
  Napi::Value RemoteKey(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo&) { CloseResource(); }

  bool RegisterOwn(const Napi::CallbackInfo& info, std::shared_ptr<ProtectionDomain> domain, const Options& options);
  bool RegisterShared(const Napi::CallbackInfo& info, std::shared_ptr<ProtectionDomain> domain, const Options& options,
                      napi_value memory);
  bool Register(napi_env env, std::shared_ptr<ProtectionDomain> domain, uint8_t* data, size_t length, int64_t access,
                std::shared_ptr<void> pages);

  std::shared_ptr<MemoryRegion> region_;
  Napi::Reference<Napi::ArrayBuffer> buffer_;
};

}  // namespace backdoors::verbs
