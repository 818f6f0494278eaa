#include "crc32c_functions.h"

#include "common/arguments.h"
#include "crc32c.h"
#include "file_reader.h"

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

// crc32cMany(bytes, spans, count, seed, crcs): of `count` pairs (offset, length) in `spans`, each CRC into `crcs`, signed.
// Where the bytes are many small pieces, crossing into the addon for each would cost more than its CRC.
Napi::Value Crc32cMany(const Napi::CallbackInfo& info) {
  const napi_env env = info.Env();
  const auto bytes = ReadBytes(env, info[0], "bytes");
  if (!bytes) return {};
  const auto spans = ReadDoubles(env, info[1], "spans");
  if (!spans) return {};
  const auto seed = ReadInteger(env, info[3], "seed", INT32_MIN, INT32_MAX);
  if (!seed) return {};
  const auto crcs = ReadSignedWords(env, info[4], "crcs");
  if (!crcs) return {};
  const auto count = ReadInteger(env, info[2], "count", 0, static_cast<int64_t>(crcs->size()));
  if (!count || !CheckGroups(env, *spans, 2, static_cast<size_t>(*count), "spans")) return {};
  const auto size = static_cast<double>(bytes->size());
  for (size_t index = 0; index < static_cast<size_t>(*count); ++index) {
    const double offset = (*spans)[2 * index];
    const double length = (*spans)[2 * index + 1];
    if (offset > size || length > size - offset) {
      ThrowInvalidArgument(env, "spans", "A span does not lie within the " + std::to_string(bytes->size()) + " bytes.");
      return {};
    }
    const uint8_t* from = bytes->data() + static_cast<size_t>(offset);
    (*crcs)[index] = static_cast<int32_t>(Crc32c(static_cast<uint32_t>(*seed), from, static_cast<size_t>(length)));
  }
  return info.Env().Undefined();
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
  exports.Set("crc32cMany", Napi::Function::New<Crc32cMany>(env, "crc32cMany"));
  exports.Set("crc32cMeans", Crc32cMeans());
}

}  // namespace backdoors::memory
