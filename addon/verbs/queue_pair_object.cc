#include "queue_pair_object.h"

#include <cstdlib>

#include "completion_queue_object.h"
#include "protection_domain_object.h"

namespace backdoors::verbs {

namespace {

constexpr size_t kMaxPeerBytes = 256;
constexpr int64_t kMaxDepth = 1 << 20;
constexpr int64_t kMaxWindows = 1 << 16;

// Bounds here are those of the attribute's type only: what the device and the standard allow is checked, and explained,
// by the transition that sets it.
constexpr int64_t kByte = 0xff;
constexpr int64_t kWord = 0xffff'ffff;

template <typename T>
bool Read(const Options& options, const char* name, int64_t high, T* target) {
  int64_t value = -1;
  if (!options.Integer(name, 0, high, &value)) return false;
  if (value >= 0) *target = static_cast<T>(value);
  return true;
}

bool ReadOptions(napi_env env, napi_value value, QueuePairOptions* target) {
  const Options options(env, value);
  return options.Check("options") && options.String("peer", kMaxPeerBytes, &target->peer) &&
         Read(options, "depth", kMaxDepth, &target->depth) && Read(options, "port", kByte, &target->port) &&
         Read(options, "gidIndex", kByte, &target->gid_index) &&
         Read(options, "pkeyIndex", 0xffff, &target->pkey_index) && Read(options, "access", 0xf, &target->access) &&
         Read(options, "psn", kWord, &target->psn) && Read(options, "timeout", kByte, &target->timeout) &&
         Read(options, "retryCount", kByte, &target->retry_count) &&
         Read(options, "rnrRetry", kByte, &target->rnr_retry) &&
         Read(options, "minRnrTimer", kByte, &target->min_rnr_timer) &&
         Read(options, "trafficClass", kByte, &target->traffic_class) &&
         Read(options, "hopLimit", kByte, &target->hop_limit) &&
         Read(options, "serviceLevel", kByte, &target->service_level);
}

bool ReadGid(napi_env env, const Options& options, ibv_gid* gid) {
  std::string text;
  if (!options.String("gid", 32, &text)) return false;
  if (text.size() != 32 || text.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
    ThrowInvalidArgument(env, "gid", "gid must be 32 hexadecimal digits.");
    return false;
  }
  for (size_t index = 0; index < sizeof gid->raw; ++index) {
    gid->raw[index] = static_cast<uint8_t>(std::strtoul(text.substr(2 * index, 2).c_str(), nullptr, 16));
  }
  return true;
}

bool ReadConnection(napi_env env, napi_value value, QueuePairConnection* target) {
  const Options options(env, value);
  return options.Check("remote") && Read(options, "qpn", kWord, &target->qpn) &&
         Read(options, "psn", kWord, &target->psn) && ReadGid(env, options, &target->gid) &&
         Read(options, "lid", 0xffff, &target->lid) && Read(options, "mtu", kWord, &target->mtu) &&
         Read(options, "maxRdAtomic", kByte, &target->max_rd_atomic) &&
         Read(options, "maxDestRdAtomic", kByte, &target->max_dest_rd_atomic);
}

bool ReadWindow(napi_env env, napi_value value, Window* window) {
  const Options options(env, value);
  std::string access;
  napi_value address = nullptr;
  int64_t offset = 0;
  int64_t length = 0;
  if (!options.Check("window") || !options.Integer("offset", 0, kMaxSafeInteger, &offset) ||
      !options.Integer("length", 0, kMaxSafeInteger, &length) || !Read(options, "rkey", kWord, &window->rkey) ||
      !options.String("access", 8, &access) || !options.Value("address", &address)) {
    return false;
  }
  const auto start = ReadUint64(env, address, "address");
  if (!start) return false;
  window->offset = static_cast<uint64_t>(offset);
  window->length = static_cast<uint64_t>(length);
  window->address = *start;
  window->writable = access == "write";
  window->atomic = access == "write" || access == "atomic";
  if (window->atomic || access == "read") return true;
  ThrowInvalidArgument(env, "access", "access of a window must be read, atomic or write.");
  return false;
}

const char* StateName(ibv_qp_state state) {
  constexpr const char* kNames[] = {"RESET", "INIT", "RTR", "RTS", "SQD", "SQE", "ERR", "UNKNOWN"};
  const auto index = static_cast<size_t>(state);
  return index < std::size(kNames) ? kNames[index] : "UNKNOWN";
}

}  // namespace

Napi::Function QueuePairObject::Define(Napi::Env env) {
  return DefineClass(env, kName,
                     {InstanceAccessor<&QueuePairObject::Number>("qpn"),
                      InstanceAccessor<&QueuePairObject::State>("state"),
                      InstanceMethod<&QueuePairObject::Connect>("connect"),
                      InstanceMethod<&QueuePairObject::SetWindows>("setWindows"),
                      InstanceMethod<&QueuePairObject::Close>("close")});
}

QueuePairObject::QueuePairObject(const Napi::CallbackInfo& info) : Wrapped(info) {
  const napi_env env = info.Env();
  auto domain = ProtectionDomainObject::Use(env, info[0], "domain");
  if (domain == nullptr) return;
  auto loop = CompletionQueueObject::Use(env, info[1], "queue");
  if (loop == nullptr) return;
  QueuePairOptions options{};
  if (!ReadOptions(env, info[2], &options)) return;
  if (options.depth == 0) {
    ThrowInvalidArgument(env, "depth", "depth must be 1 at least.");
    return;
  }
  Failure failure;
  pair_ = QueuePair::Create(std::move(domain), loop->shared_queue(), std::move(options), &failure);
  if (pair_ == nullptr) {
    Throw(env, failure);
    return;
  }
  loop_ = std::move(loop);
  Tag(info);
}

QueuePairObject* QueuePairObject::Use(napi_env env, napi_value value, const char* name) {
  QueuePairObject* object = From(env, value, name);
  if (object == nullptr || object->pair_ != nullptr) return object;
  ThrowError(env, "CLOSED", "the queue pair is closed");
  return nullptr;
}

Napi::Value QueuePairObject::Number(const Napi::CallbackInfo& info) {
  const QueuePairObject* object = Use(info.Env(), info.This(), "this");
  return object == nullptr ? Napi::Value() : Napi::Number::New(info.Env(), object->pair_->number());
}

Napi::Value QueuePairObject::State(const Napi::CallbackInfo& info) {
  const char* name = pair_ == nullptr ? "RESET" : StateName(pair_->QueryState());
  return Napi::String::New(info.Env(), name);
}

void QueuePairObject::Connect(const Napi::CallbackInfo& info) {
  QueuePairConnection remote{};
  if (!ReadConnection(info.Env(), info[0], &remote) || Use(info.Env(), info.This(), "this") == nullptr) return;
  Failure failure;
  if (!pair_->Connect(remote, &failure)) Throw(info.Env(), failure);
}

void QueuePairObject::SetWindows(const Napi::CallbackInfo& info) {
  const napi_env env = info.Env();
  uint32_t count = 0;
  bool is_array = false;
  napi_is_array(env, info[0], &is_array);
  if (is_array) napi_get_array_length(env, info[0], &count);
  if (!is_array || count > kMaxWindows) {
    ThrowInvalidArgument(env, "windows", "windows must be an array of at most 65536 windows.");
    return;
  }
  std::vector<Window> windows(count);
  for (uint32_t index = 0; index < count; ++index) {
    napi_value window = nullptr;
    if (napi_get_element(env, info[0], index, &window) != napi_ok || !ReadWindow(env, window, &windows[index])) return;
  }
  if (Use(env, info.This(), "this") != nullptr) pair_->SetWindows(std::move(windows));
}

void QueuePairObject::Close(const Napi::CallbackInfo&) {
  if (pair_ == nullptr) return;
  const auto loop = loop_;
  CloseResource();
  loop->SettleFinished();
}

void QueuePairObject::CloseResource() noexcept {
  if (pair_ != nullptr) pair_->End();
  pair_.reset();
  loop_.reset();
}

}  // namespace backdoors::verbs
