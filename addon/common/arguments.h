// Reading what JavaScript gives. Each reader checks type and bounds; where they do not hold it throws
// INVALID_ARGUMENT, whose `field` is the argument's name, and returns nothing: the caller returns at once.
//
// Reading a property or an element can run the caller's own code (a getter, a proxy), which may detach a buffer or
// close an object. So objects are read first, and bytes and doubles last.
#pragma once

#include <node_api.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace backdoors {

// The largest integer that a number of JavaScript holds exactly.
inline constexpr int64_t kMaxSafeInteger = (int64_t{1} << 53) - 1;
// Of a path, without the NUL that the kernel's own bound (PATH_MAX) counts.
inline constexpr size_t kMaxPathBytes = 4095;

void ThrowInvalidArgument(napi_env env, const char* name, const std::string& message);

std::optional<int64_t> ReadInteger(napi_env env, napi_value value, const char* name, int64_t low, int64_t high);
// A finite number.
std::optional<double> ReadNumber(napi_env env, napi_value value, const char* name, double low, double high);
std::optional<bool> ReadBoolean(napi_env env, napi_value value, const char* name);
// A BigInt from 0 to 2^64 - 1.
std::optional<uint64_t> ReadUint64(napi_env env, napi_value value, const char* name);
// UTF-8, not empty, without a NUL, at most `max_bytes` long.
std::optional<std::string> ReadString(napi_env env, napi_value value, const char* name, size_t max_bytes);
// A Uint8Array. The span holds until JavaScript runs again.
std::optional<std::span<uint8_t>> ReadBytes(napi_env env, napi_value value, const char* name);
// A Float64Array. The span holds until JavaScript runs again.
std::optional<std::span<double>> ReadDoubles(napi_env env, napi_value value, const char* name);
// An Int32Array. The span holds until JavaScript runs again.
std::optional<std::span<int32_t>> ReadSignedWords(napi_env env, napi_value value, const char* name);
bool CheckFunction(napi_env env, napi_value value, const char* name);
bool CheckObject(napi_env env, napi_value value, const char* name);

// An argument that was left out is undefined.
bool IsUndefined(napi_env env, napi_value value);

// The fields of an options object. A field that is absent or undefined leaves its target as it is; false means that
// an exception is pending.
class Options {
 public:
  Options(napi_env env, napi_value object) : env_(env), object_(object) {}
  // `name` says what should have been an object.
  bool Check(const char* name) const { return CheckObject(env_, object_, name); }

  bool Integer(const char* name, int64_t low, int64_t high, int64_t* target) const;
  bool Number(const char* name, double low, double high, double* target) const;
  bool Boolean(const char* name, bool* target) const;
  bool String(const char* name, size_t max_bytes, std::string* target) const;
  // Null where the field is absent.
  bool Value(const char* name, napi_value* target) const;

 private:
  napi_env env_;
  napi_value object_;
};

}  // namespace backdoors
