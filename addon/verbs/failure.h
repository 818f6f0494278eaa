// What went wrong, told without JavaScript, so that the sampler's thread can tell it as well.
#pragma once

#include <string>

#include "common/error.h"

namespace backdoors::verbs {

struct Failure {
  // A code of src/errors.ts.
  const char* code = "";
  std::string message;
  Details details;
};

// A verbs call that failed: VERBS_CALL_FAILED, or MEMLOCK_LIMIT where ENOMEM most often means the limit on locked
// memory. `doing` says what the call was for.
Failure CallFailed(const char* call, int error_number, const std::string& doing);

inline void Throw(napi_env env, const Failure& failure) {
  ThrowError(env, failure.code, failure.message, failure.details);
}

}  // namespace backdoors::verbs
