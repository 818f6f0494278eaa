// `Context` of src/native/verbs.ts.
#pragma once

#include <memory>

#include "common/js_callback.h"
#include "common/uv_handle.h"
#include "common/wrapped.h"
#include "context.h"

namespace backdoors::verbs {

class ContextObject : public Wrapped<ContextObject> {
 public:
  static constexpr napi_type_tag kTypeTag = {0x1d0fb3a4c7e24f60, 0x9b61e0d2537a48cf};
  static constexpr const char* kName = "Context";
  static Napi::Function Define(Napi::Env env);

  explicit ContextObject(const Napi::CallbackInfo& info);
  ~ContextObject() override { CloseResource(); }

  // Null after throwing CLOSED.
  static std::shared_ptr<Context> Use(napi_env env, napi_value value, const char* name);
  void CloseResource() noexcept override;

 private:
  Napi::Value Device(const Napi::CallbackInfo& info);
  Napi::Value Attributes(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);
  void Listen(const Napi::CallbackInfo& info);
  void OnEvent();

  std::shared_ptr<Context> context_;
  PollHandle readable_;
  JsCallback listener_;
};

}  // namespace backdoors::verbs
