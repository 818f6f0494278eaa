#include "descriptor_arguments.h"

#include <climits>

#include "common/arguments.h"

namespace backdoors::network {

std::optional<std::vector<int>> ReadDescriptors(napi_env env, napi_value value, size_t most) {
  bool is_array = false;
  uint32_t count = 0;
  if (napi_is_array(env, value, &is_array) != napi_ok || !is_array || napi_get_array_length(env, value, &count) != napi_ok ||
      count > most) {
    ThrowInvalidArgument(env, "descriptors", "descriptors must be an array of at most " + std::to_string(most) + ".");
    return std::nullopt;
  }
  std::vector<int> descriptors;
  descriptors.reserve(count);
  for (uint32_t index = 0; index < count; ++index) {
    napi_value element = nullptr;
    if (napi_get_element(env, value, index, &element) != napi_ok) return std::nullopt;
    const auto descriptor = ReadInteger(env, element, "descriptors", 0, INT_MAX);
    if (!descriptor) return std::nullopt;
    descriptors.push_back(static_cast<int>(*descriptor));
  }
  return descriptors;
}

}  // namespace backdoors::network
