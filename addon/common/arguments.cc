#include "arguments.h"

#include <cmath>
#include <cstdio>

#include "error.h"

namespace backdoors {

namespace {

// What was given instead, for messages. It never runs code of the caller's.
std::string Describe(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  napi_typeof(env, value, &type);
  switch (type) {
    case napi_number: {
      double number = 0;
      napi_get_value_double(env, value, &number);
      char text[32];
      std::snprintf(text, sizeof text, "%.17g", number);
      return text;
    }
    case napi_undefined: return "undefined";
    case napi_null: return "null";
    case napi_boolean: return "a boolean";
    case napi_string: return "a string";
    case napi_symbol: return "a symbol";
    case napi_object: return "an object";
    case napi_function: return "a function";
    case napi_bigint: return "a bigint";
    case napi_external: return "an external";
  }
  return "something else";
}

void ThrowMismatch(napi_env env, napi_value value, const char* name, const std::string& wanted) {
  ThrowInvalidArgument(env, name, std::string(name) + " must be " + wanted + ", not " + Describe(env, value) + ".");
}

std::string Shorten(double number) {
  char text[32];
  std::snprintf(text, sizeof text, "%.15g", number);
  return text;
}

}  // namespace

void ThrowInvalidArgument(napi_env env, const char* name, const std::string& message) {
  ThrowError(env, "INVALID_ARGUMENT", message, {.field = name});
}

std::optional<int64_t> ReadInteger(napi_env env, napi_value value, const char* name, int64_t low, int64_t high) {
  double number = 0;
  // The comparison is false for NaN as well.
  if (napi_get_value_double(env, value, &number) == napi_ok && number >= static_cast<double>(low) &&
      number <= static_cast<double>(high) && number == std::trunc(number)) {
    return static_cast<int64_t>(number);
  }
  ThrowMismatch(env, value, name, "a whole number from " + std::to_string(low) + " to " + std::to_string(high));
  return std::nullopt;
}

std::optional<double> ReadNumber(napi_env env, napi_value value, const char* name, double low, double high) {
  double number = 0;
  if (napi_get_value_double(env, value, &number) == napi_ok && number >= low && number <= high) return number;
  ThrowMismatch(env, value, name, "a number from " + Shorten(low) + " to " + Shorten(high));
  return std::nullopt;
}

std::optional<bool> ReadBoolean(napi_env env, napi_value value, const char* name) {
  bool result = false;
  if (napi_get_value_bool(env, value, &result) == napi_ok) return result;
  ThrowMismatch(env, value, name, "a boolean");
  return std::nullopt;
}

std::optional<uint64_t> ReadUint64(napi_env env, napi_value value, const char* name) {
  uint64_t number = 0;
  bool lossless = false;
  if (napi_get_value_bigint_uint64(env, value, &number, &lossless) == napi_ok && lossless) return number;
  ThrowMismatch(env, value, name, "a bigint from 0 to 2^64 - 1");
  return std::nullopt;
}

std::optional<std::string> ReadString(napi_env env, napi_value value, const char* name, size_t max_bytes) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) {
    ThrowMismatch(env, value, name, "a string");
    return std::nullopt;
  }
  std::string text;
  if (length > 0 && length <= max_bytes) {
    text.resize(length + 1);
    napi_get_value_string_utf8(env, value, text.data(), text.size(), &length);
    text.resize(length);
  }
  // A NUL would end the name early for the kernel, and another file than the one named would be meant.
  if (text.empty() || text.find('\0') != std::string::npos) {
    const std::string wanted = " must be 1 to " + std::to_string(max_bytes) + " bytes long and hold no NUL.";
    ThrowInvalidArgument(env, name, name + wanted);
    return std::nullopt;
  }
  return text;
}

namespace {

template <typename Element>
std::optional<std::span<Element>> ReadArray(napi_env env, napi_value value, const char* name,
                                            napi_typedarray_type wanted, const char* what) {
  napi_typedarray_type type = napi_bigint64_array;
  size_t length = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) == napi_ok && type == wanted) {
    return std::span(static_cast<Element*>(data), length);
  }
  ThrowMismatch(env, value, name, what);
  return std::nullopt;
}

}  // namespace

std::optional<std::span<uint8_t>> ReadBytes(napi_env env, napi_value value, const char* name) {
  return ReadArray<uint8_t>(env, value, name, napi_uint8_array, "a Uint8Array");
}

std::optional<std::span<double>> ReadDoubles(napi_env env, napi_value value, const char* name) {
  return ReadArray<double>(env, value, name, napi_float64_array, "a Float64Array");
}

std::optional<std::span<int32_t>> ReadSignedWords(napi_env env, napi_value value, const char* name) {
  return ReadArray<int32_t>(env, value, name, napi_int32_array, "an Int32Array");
}

bool CheckFunction(napi_env env, napi_value value, const char* name) {
  napi_valuetype type = napi_undefined;
  if (napi_typeof(env, value, &type) == napi_ok && type == napi_function) return true;
  ThrowMismatch(env, value, name, "a function");
  return false;
}

bool CheckObject(napi_env env, napi_value value, const char* name) {
  napi_valuetype type = napi_undefined;
  if (napi_typeof(env, value, &type) == napi_ok && type == napi_object) return true;
  ThrowMismatch(env, value, name, "an object");
  return false;
}

bool IsUndefined(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  return value == nullptr || (napi_typeof(env, value, &type) == napi_ok && type == napi_undefined);
}

bool Options::Value(const char* name, napi_value* target) const {
  *target = nullptr;
  napi_value value = nullptr;
  // Fails only where the caller's own getter threw.
  if (napi_get_named_property(env_, object_, name, &value) != napi_ok) return false;
  if (!IsUndefined(env_, value)) *target = value;
  return true;
}

bool Options::Integer(const char* name, int64_t low, int64_t high, int64_t* target) const {
  napi_value value = nullptr;
  if (!Value(name, &value)) return false;
  if (value == nullptr) return true;
  const auto number = ReadInteger(env_, value, name, low, high);
  if (number) *target = *number;
  return number.has_value();
}

bool Options::Number(const char* name, double low, double high, double* target) const {
  napi_value value = nullptr;
  if (!Value(name, &value)) return false;
  if (value == nullptr) return true;
  const auto number = ReadNumber(env_, value, name, low, high);
  if (number) *target = *number;
  return number.has_value();
}

bool Options::Boolean(const char* name, bool* target) const {
  napi_value value = nullptr;
  if (!Value(name, &value)) return false;
  if (value == nullptr) return true;
  const auto boolean = ReadBoolean(env_, value, name);
  if (boolean) *target = *boolean;
  return boolean.has_value();
}

bool Options::String(const char* name, size_t max_bytes, std::string* target) const {
  napi_value value = nullptr;
  if (!Value(name, &value)) return false;
  if (value == nullptr) return true;
  auto text = ReadString(env_, value, name, max_bytes);
  if (text) *target = std::move(*text);
  return text.has_value();
}

}  // namespace backdoors
