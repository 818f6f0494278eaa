// `CompletionQueue` of src/native/verbs.ts.
#pragma once

#include <memory>

#include "common/wrapped.h"
#include "completion_loop.h"

namespace backdoors::verbs {

class CompletionQueueObject : public Wrapped<CompletionQueueObject> {
 public:
  static constexpr napi_type_tag kTypeTag = {0x8a26f94e3b7d41c0, 0xa5c3d8e70b1f6294};
  static constexpr const char* kName = "CompletionQueue";
  static Napi::Function Define(Napi::Env env);

  explicit CompletionQueueObject(const Napi::CallbackInfo& info);

  // Null after throwing CLOSED.
  static std::shared_ptr<CompletionLoop> Use(napi_env env, napi_value value, const char* name);
  void CloseResource() noexcept override { loop_.reset(); }

 private:
  Napi::Value Depth(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo&) { CloseResource(); }

  std::shared_ptr<CompletionLoop> loop_;
};

}  // namespace backdoors::verbs
