// Throwing the project's typed errors. C++ exceptions never cross into JavaScript: a function that fails throws here
// and returns at once.
#pragma once

#include <node_api.h>

#include <cstdint>
#include <optional>
#include <string>

namespace backdoors {

// ErrorDetails of src/errors.ts. Only what is set becomes a field of the error.
struct Details {
  std::optional<std::string> peer = {};
  std::optional<uint64_t> offset = {};
  std::optional<uint64_t> length = {};
  std::optional<uint64_t> address = {};
  std::optional<uint32_t> vendor_error = {};
  std::optional<uint32_t> queue_pair = {};
  // Gives the fields `errno` and `errnoName`.
  std::optional<int> error_number = {};
  std::optional<std::string> call = {};
  std::optional<std::string> path = {};
  std::optional<std::string> interface = {};
  std::optional<std::string> field = {};
};

// An error to reject a promise with, made by the function given to `initialize`. Where none was given it is a plain
// Error with a `code`. Null where JavaScript can no longer run.
napi_value MakeError(napi_env env, const char* code, const std::string& message, const Details& details = {});

// Throws it, unless an exception is pending already: the first one says more.
void ThrowError(napi_env env, const char* code, const std::string& message, const Details& details = {});

// SYSTEM_CALL_FAILED: "`doing`: `call`: `what errno means`". `details.error_number` and `.call` are filled in.
void ThrowErrno(napi_env env, const char* call, int error_number, const std::string& doing, Details details = {});

// EINVAL for 22, and so on; "E22" for numbers without a name.
std::string ErrnoName(int error_number);
// What the error number means, in words.
std::string ErrnoText(int error_number);

bool IsExceptionPending(napi_env env);

}  // namespace backdoors
