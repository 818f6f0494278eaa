// Reading connections from JavaScript.
#pragma once

#include <node_api.h>

#include <optional>
#include <vector>

#include "tcp_connection.h"

namespace backdoors::network {

// As many as one call takes.
constexpr size_t kMostConnections = 65536;

// An array of TcpConnection; nothing after throwing. All is copied: reading runs the caller's own code.
std::optional<std::vector<TcpConnection>> ReadConnections(napi_env env, napi_value value);

}  // namespace backdoors::network
