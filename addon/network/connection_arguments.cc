#include "connection_arguments.h"

#include <arpa/inet.h>

#include <cstring>

#include "common/arguments.h"

namespace backdoors::network {

namespace {

constexpr size_t kIpv4Bytes = 4;
constexpr size_t kIpv6Bytes = 16;
constexpr int64_t kMostPort = UINT16_MAX;
constexpr int64_t kMostScale = 14;
constexpr size_t kMostQueueBytes = size_t{1} << 30;

// The fields of one object, each of which has to be there; after the first that is not, all others are nothing.
class Fields {
 public:
  Fields(napi_env env, napi_value object) : env_(env), object_(object) {}

  uint32_t Number(const char* name, int64_t low = 0, int64_t high = UINT32_MAX) {
    const napi_value value = Value(name);
    const auto number = failed_ ? std::nullopt : ReadInteger(env_, value, name, low, high);
    return static_cast<uint32_t>(Or(number, int64_t{0}));
  }

  bool Boolean(const char* name) {
    const napi_value value = Value(name);
    return Or(failed_ ? std::nullopt : ReadBoolean(env_, value, name), false);
  }

  std::vector<uint8_t> Bytes(const char* name) {
    const napi_value value = Value(name);
    const auto bytes = failed_ ? std::nullopt : ReadBytes(env_, value, name);
    if (bytes && bytes->size() <= kMostQueueBytes) return {bytes->begin(), bytes->end()};
    if (bytes) ThrowInvalidArgument(env_, name, std::string(name) + " is longer than any queue.");
    failed_ = true;
    return {};
  }

  // Undefined where the field is.
  napi_value Value(const char* name) {
    napi_value value = nullptr;
    if (!failed_ && napi_get_named_property(env_, object_, name, &value) != napi_ok) failed_ = true;
    return value;
  }

  bool IsAbsent(const char* name) {
    const napi_value value = Value(name);
    return failed_ || IsUndefined(env_, value);
  }

  Fields Object(const char* name) {
    Fields inner(env_, Value(name));
    inner.failed_ = failed_ || !CheckObject(env_, inner.object_, name);
    return inner;
  }

  bool failed() const { return failed_; }

 private:
  template <typename T>
  T Or(const std::optional<T>& value, T instead) {
    failed_ = failed_ || !value;
    return value.value_or(instead);
  }

  napi_env env_;
  napi_value object_;
  bool failed_ = false;
};

bool ReadEndpoint(napi_env env, Fields endpoint, sockaddr_storage* into) {
  const auto port = htons(static_cast<uint16_t>(endpoint.Number("port", 1, kMostPort)));
  const std::vector<uint8_t> address = endpoint.Bytes("address");
  if (endpoint.failed()) return false;
  if (address.size() == kIpv4Bytes) {
    auto* ipv4 = reinterpret_cast<sockaddr_in*>(into);
    ipv4->sin_family = AF_INET;
    ipv4->sin_port = port;
    std::memcpy(&ipv4->sin_addr, address.data(), kIpv4Bytes);
    return true;
  }
  if (address.size() == kIpv6Bytes) {
    auto* ipv6 = reinterpret_cast<sockaddr_in6*>(into);
    ipv6->sin6_family = AF_INET6;
    ipv6->sin6_port = port;
    std::memcpy(&ipv6->sin6_addr, address.data(), kIpv6Bytes);
    return true;
  }
  ThrowInvalidArgument(env, "address", "address must be 4 or 16 bytes long, not " + std::to_string(address.size()) + ".");
  return false;
}

bool ReadOptions(Fields options, TcpConnection* into) {
  into->mss_clamp = options.Number("mssClamp", 1, UINT16_MAX);
  into->sack = options.Boolean("sack");
  if (!options.IsAbsent("timestamp")) into->timestamp = options.Number("timestamp");
  if (options.failed() || options.IsAbsent("windowScale")) return !options.failed();
  Fields scale = options.Object("windowScale");
  into->window_scale = {static_cast<uint8_t>(scale.Number("send", 0, kMostScale)), static_cast<uint8_t>(scale.Number("receive", 0, kMostScale))};
  return !scale.failed();
}

bool ReadWindow(Fields window, tcp_repair_window* into) {
  into->snd_wl1 = window.Number("sndWl1");
  into->snd_wnd = window.Number("sndWnd");
  into->max_window = window.Number("maxWindow");
  into->rcv_wnd = window.Number("rcvWnd");
  into->rcv_wup = window.Number("rcvWup");
  return !window.failed();
}

bool ReadConnection(napi_env env, Fields fields, TcpConnection* into) {
  into->rcv_nxt = fields.Number("rcvNxt");
  into->snd_una = fields.Number("sndUna");
  into->snd_nxt = fields.Number("sndNxt");
  into->unread = fields.Bytes("unread");
  into->unacknowledged = fields.Bytes("unacknowledged");
  if (fields.failed() || !ReadEndpoint(env, fields.Object("local"), &into->local) ||
      !ReadEndpoint(env, fields.Object("remote"), &into->remote) || !ReadOptions(fields.Object("options"), into) ||
      !ReadWindow(fields.Object("window"), &into->window)) {
    return false;
  }
  if (into->local.ss_family != into->remote.ss_family) {
    ThrowInvalidArgument(env, "remote", "The addresses of both ends must be of one family.");
    return false;
  }
  if (into->sent() <= into->unacknowledged.size()) return true;
  ThrowInvalidArgument(env, "sndNxt", "sndNxt lies past the bytes that were written.");
  return false;
}

}  // namespace

std::optional<std::vector<TcpConnection>> ReadConnections(napi_env env, napi_value value) {
  bool is_array = false;
  uint32_t count = 0;
  if (napi_is_array(env, value, &is_array) != napi_ok || !is_array || napi_get_array_length(env, value, &count) != napi_ok ||
      count > kMostConnections) {
    ThrowInvalidArgument(env, "connections", "connections must be an array of at most 65536.");
    return std::nullopt;
  }
  std::vector<TcpConnection> connections(count);
  for (uint32_t index = 0; index < count; ++index) {
    napi_handle_scope scope = nullptr;
    if (napi_open_handle_scope(env, &scope) != napi_ok) return std::nullopt;
    napi_value element = nullptr;
    const bool read = napi_get_element(env, value, index, &element) == napi_ok && CheckObject(env, element, "connections") &&
                      ReadConnection(env, Fields(env, element), &connections[index]);
    napi_close_handle_scope(env, scope);
    if (!read) return std::nullopt;
  }
  return connections;
}

}  // namespace backdoors::network
