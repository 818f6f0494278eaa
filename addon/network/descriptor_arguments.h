// Reading descriptors, which JavaScript holds as numbers.
#pragma once

#include <node_api.h>

#include <optional>
#include <vector>

namespace backdoors::network {

// An array of at most `most` descriptors; nothing after throwing.
std::optional<std::vector<int>> ReadDescriptors(napi_env env, napi_value value, size_t most);

}  // namespace backdoors::network
