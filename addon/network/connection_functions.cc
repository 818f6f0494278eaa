#include "connection_functions.h"

#include <climits>

#include "common/arguments.h"
#include "common/error.h"
#include "connection_arguments.h"
#include "descriptor_arguments.h"
#include "raw_sender.h"
#include "repair_socket.h"
#include "sent_segment.h"
#include "unreachable_message.h"

namespace backdoors::network {

namespace {

constexpr int64_t kMostHints = 16;
// As many as a new connection sends without an answer (RFC 6928).
constexpr int kMostSegments = 10;

Napi::Object Failed(Napi::Env env, const char* call, int error) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("call", call);
  result.Set("errno", error);
  result.Set("errnoName", ErrnoName(error));
  return result;
}

// Of many things that are sent, the first that failed.
class FirstFailure {
 public:
  void Note(const char* call, int error) {
    if (error == 0 || error_ != 0) return;
    error_ = error;
    call_ = call;
  }

  // undefined where nothing did.
  Napi::Value Told(Napi::Env env) const { return error_ == 0 ? env.Undefined() : Napi::Value(Failed(env, call_, error_)); }

 private:
  int error_ = 0;
  const char* call_ = nullptr;
};

// restoreConnections(connections)
Napi::Value RestoreConnections(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto connections = ReadConnections(env, info[0]);
  if (!connections) return {};
  Napi::Array results = Napi::Array::New(env, connections->size());
  for (uint32_t index = 0; index < connections->size(); ++index) {
    const Napi::HandleScope scope(env);
    RepairSocket socket;
    const char* call = nullptr;
    const int error = socket.Restore((*connections)[index], &call);
    if (error != 0) {
      results.Set(index, Failed(env, call, error));
      continue;
    }
    Napi::Object restored = Napi::Object::New(env);
    restored.Set("descriptor", socket.Release());
    results.Set(index, restored);
  }
  return results;
}

std::optional<int> ReadDescriptor(napi_env env, napi_value value) {
  const auto number = ReadInteger(env, value, "descriptor", 0, INT_MAX);
  return number ? std::optional(static_cast<int>(*number)) : std::nullopt;
}

// activateConnections(descriptors)
Napi::Value ActivateConnections(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto descriptors = ReadDescriptors(env, info[0], kMostConnections);
  if (!descriptors) return {};
  Napi::Array results = Napi::Array::New(env, descriptors->size());
  for (uint32_t index = 0; index < descriptors->size(); ++index) {
    const Napi::HandleScope scope(env);
    const char* call = nullptr;
    const int error = RepairSocket::Activate((*descriptors)[index], &call);
    if (error == 0) {
      results.Set(index, env.Undefined());
    } else {
      results.Set(index, Failed(env, call, error));
    }
  }
  return results;
}

// hintResend(connections, times)
Napi::Value HintResend(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto connections = ReadConnections(env, info[0]);
  if (!connections) return {};
  const auto times = ReadInteger(env, info[1], "times", 1, kMostHints);
  if (!times) return {};
  RawSender sender(RawSender::Kind::kIcmp);
  FirstFailure failure;
  // Round by round: the peers have until the next to be done with whatever they were at.
  for (int64_t round = 0; round < *times; ++round) {
    for (const TcpConnection& connection : *connections) {
      const char* call = nullptr;
      const int error = sender.Send(connection.local, connection.remote, UnreachableMessage(connection).bytes(), &call);
      failure.Note(call, error);
    }
  }
  return failure.Told(env);
}

// resendSent(connections)
Napi::Value ResendSent(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto connections = ReadConnections(env, info[0]);
  if (!connections) return {};
  RawSender sender(RawSender::Kind::kTcp);
  FirstFailure failure;
  for (const TcpConnection& connection : *connections) {
    size_t offset = 0;
    for (int count = 0; count < kMostSegments && offset < connection.sent(); ++count) {
      const SentSegment segment(connection, offset);
      offset += segment.payload_bytes();
      const char* call = nullptr;
      const int error = sender.Send(connection.local, connection.remote, segment.bytes(), &call);
      failure.Note(call, error);
    }
  }
  return failure.Told(env);
}

// askPeers(connections)
Napi::Value AskPeers(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto connections = ReadConnections(env, info[0]);
  if (!connections) return {};
  RawSender sender(RawSender::Kind::kTcp);
  FirstFailure failure;
  for (const TcpConnection& connection : *connections) {
    const char* call = nullptr;
    const int error = sender.Send(connection.local, connection.remote, SentSegment(connection, connection.sent()).bytes(), &call);
    failure.Note(call, error);
  }
  return failure.Told(env);
}

// resetConnection(descriptor)
void ResetConnection(const Napi::CallbackInfo& info) {
  const auto descriptor = ReadDescriptor(info.Env(), info[0]);
  if (!descriptor) return;
  const char* call = nullptr;
  const int error = RepairSocket::Reset(*descriptor, &call);
  if (error != 0) ThrowErrno(info.Env(), call, error, "Resetting a connection");
}

// closeDescriptor(descriptor)
void CloseDescriptor(const Napi::CallbackInfo& info) {
  const auto descriptor = ReadDescriptor(info.Env(), info[0]);
  if (descriptor) FileDescriptor(*descriptor).Reset();
}

}  // namespace

void DefineConnectionFunctions(Napi::Env env, Napi::Object exports) {
  exports.Set("restoreConnections", Napi::Function::New<RestoreConnections>(env, "restoreConnections"));
  exports.Set("activateConnections", Napi::Function::New<ActivateConnections>(env, "activateConnections"));
  exports.Set("hintResend", Napi::Function::New<HintResend>(env, "hintResend"));
  exports.Set("resendSent", Napi::Function::New<ResendSent>(env, "resendSent"));
  exports.Set("askPeers", Napi::Function::New<AskPeers>(env, "askPeers"));
  exports.Set("resetConnection", Napi::Function::New<ResetConnection>(env, "resetConnection"));
  exports.Set("closeDescriptor", Napi::Function::New<CloseDescriptor>(env, "closeDescriptor"));
}

}  // namespace backdoors::network
