#include "js_callback.h"

#include <utility>

namespace backdoors {

void JsCallback::Set(napi_env env, napi_value function, const char* name) {
  Reset();
  env_ = env;
  napi_value resource_name = nullptr;
  napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &resource_name);
  napi_async_init(env, nullptr, resource_name, &context_);
  napi_create_reference(env, function, 1, &function_);
}

void JsCallback::Reset() {
  if (function_ != nullptr) napi_delete_reference(env_, function_);
  if (context_ != nullptr) napi_async_destroy(env_, context_);
  function_ = nullptr;
  context_ = nullptr;
}

void JsCallback::MoveTo(JsCallback* other) {
  other->Reset();
  other->env_ = env_;
  other->function_ = std::exchange(function_, nullptr);
  other->context_ = std::exchange(context_, nullptr);
}

void JsCallback::Invoke(const napi_value* arguments, size_t count) {
  // The function may reset this object: nothing of it is used after the call.
  const napi_env env = env_;
  napi_value function = nullptr;
  napi_value receiver = nullptr;
  napi_get_reference_value(env, function_, &function);
  napi_get_global(env, &receiver);
  if (function == nullptr) return;
  napi_make_callback(env, context_, receiver, function, count, arguments, nullptr);
  bool thrown = false;
  napi_is_exception_pending(env, &thrown);
  if (!thrown) return;
  napi_value error = nullptr;
  napi_get_and_clear_last_exception(env, &error);
  napi_fatal_exception(env, error);
}

}  // namespace backdoors
