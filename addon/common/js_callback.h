// A function of JavaScript that native code calls from the event loop.
#pragma once

#include <node_api.h>

#include <span>

namespace backdoors {

// Used on its environment's thread only.
class JsCallback {
 public:
  JsCallback() = default;
  ~JsCallback() { Reset(); }
  JsCallback(const JsCallback&) = delete;
  JsCallback& operator=(const JsCallback&) = delete;

  // `name` is what diagnostic tools show of it.
  void Set(napi_env env, napi_value function, const char* name);
  // Must have been called before the environment ends.
  void Reset();
  // Leaves this one empty.
  void MoveTo(JsCallback* other);

  // Opens a handle scope, lets `make` fill the arguments, and calls the function as a task of its own (so promises
  // it settles go on at once). What the function throws becomes an uncaught exception, as in any callback.
  template <typename Make>
  void Call(Make make) {
    if (function_ == nullptr) return;
    napi_handle_scope scope = nullptr;
    if (napi_open_handle_scope(env_, &scope) != napi_ok) return;
    const napi_env env = env_;
    napi_value arguments[4] = {};
    const size_t count = make(env, std::span(arguments));
    Invoke(arguments, count);
    napi_close_handle_scope(env, scope);
  }

 private:
  void Invoke(const napi_value* arguments, size_t count);

  napi_env env_ = nullptr;
  napi_ref function_ = nullptr;
  napi_async_context context_ = nullptr;
};

}  // namespace backdoors
