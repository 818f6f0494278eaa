#include "crc32c_functions.h"

#include "common/arguments.h"
#include "crc32c.h"

namespace backdoors::memory {

namespace {

using Update = uint32_t (*)(uint32_t crc, const uint8_t* bytes, size_t length) noexcept;

// Reads the arguments one by one in order to say what is wrong with them; fast paths do not come here.
napi_value ThrowMisuse(napi_env env, const napi_value* arguments) {
  const auto bytes = ReadBytes(env, arguments[0], "bytes");
  if (!bytes) return nullptr;
  const auto size = static_cast<int64_t>(bytes->size());
  const auto offset = ReadInteger(env, arguments[1], "offset", 0, size);
  if (!offset) return nullptr;
  if (!ReadInteger(env, arguments[2], "length", 0, size - *offset)) return nullptr;
  ReadInteger(env, arguments[3], "seed", INT32_MIN, INT32_MAX);
  return nullptr;
}

// crc32c(bytes, offset, length, seed). Each commit comes here, so it is written against the bare Node-API: wrappers
// would double what it costs. Seed and result are signed: half of all unsigned ones would be objects on the heap.
template <Update update>
napi_value Crc32cCallback(napi_env env, napi_callback_info info) {
  napi_value arguments[4];
  size_t count = 4;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  napi_typedarray_type type = napi_int8_array;
  size_t size = 0;
  void* data = nullptr;
  double offset = 0;
  double length = 0;
  double seed = 0;
  if (napi_get_typedarray_info(env, arguments[0], &type, &size, &data, nullptr, nullptr) != napi_ok ||
      type != napi_uint8_array || napi_get_value_double(env, arguments[1], &offset) != napi_ok ||
      napi_get_value_double(env, arguments[2], &length) != napi_ok ||
      napi_get_value_double(env, arguments[3], &seed) != napi_ok) {
    return ThrowMisuse(env, arguments);
  }
  // Every comparison is false for NaN. Bounds come first: a double beyond them must not be converted.
  const bool is_within = offset >= 0 && length >= 0 && offset <= static_cast<double>(size) &&
                         length <= static_cast<double>(size) - offset && seed >= INT32_MIN && seed <= INT32_MAX;
  if (!is_within) return ThrowMisuse(env, arguments);
  const auto from = static_cast<size_t>(offset);
  const auto bytes = static_cast<size_t>(length);
  const auto before = static_cast<int32_t>(seed);
  if (static_cast<double>(from) != offset || static_cast<double>(bytes) != length || before != seed) {
    return ThrowMisuse(env, arguments);
  }
  napi_value result = nullptr;
  const uint32_t crc = update(static_cast<uint32_t>(before), static_cast<const uint8_t*>(data) + from, bytes);
  napi_create_int32(env, static_cast<int32_t>(crc), &result);
  return result;
}

void Define(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value function = nullptr;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function);
  napi_set_named_property(env, exports, name, function);
}

}  // namespace

void DefineCrc32c(Napi::Env env, Napi::Object exports) {
  Define(env, exports, "crc32c", Crc32cCallback<Crc32c>);
  Define(env, exports, "crc32cBySoftware", Crc32cCallback<Crc32cBySoftware>);
  exports.Set("crc32cMeans", Crc32cMeans());
}

}  // namespace backdoors::memory
