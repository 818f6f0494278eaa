// What went wrong, told without JavaScript. The boundary throws it as a typed error.
#pragma once

#include <string>

#include "common/error.h"

namespace backdoors::memory {

struct Failure {
  const char* code = nullptr;
  std::string message = {};
  Details details = {};

  // SYSTEM_CALL_FAILED.
  static Failure Call(const char* call, int error_number, const std::string& doing, const std::string& path) {
    Failure failure;
    failure.code = "SYSTEM_CALL_FAILED";
    failure.message = doing + ": " + call + ": " + ErrnoText(error_number) + ".";
    failure.details = {.error_number = error_number, .call = call, .path = path};
    return failure;
  }

  void Throw(napi_env env) const { ThrowError(env, code, message, details); }
};

}  // namespace backdoors::memory
