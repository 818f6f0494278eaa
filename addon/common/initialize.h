// The beginning of every target of the addon.
#pragma once

#include <napi.h>

#include "arguments.h"
#include "environment.h"

namespace backdoors {

// Makes the environment's state and exports `initialize`. Called first in a module's init; false after a failure.
inline bool InitializeTarget(Napi::Env env, Napi::Object exports) {
  if (Environment::Create(env) == nullptr) {
    napi_throw_error(env, "SYSTEM_CALL_FAILED", "This environment has no event loop.");
    return false;
  }
  const auto initialize = [](const Napi::CallbackInfo& info) {
    if (CheckFunction(info.Env(), info[0], "createError")) Environment::Of(info.Env())->SetErrorFactory(info[0]);
  };
  exports.Set("initialize", Napi::Function::New(env, initialize, "initialize"));
  return true;
}

}  // namespace backdoors
