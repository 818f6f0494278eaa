#include "descriptor_channel.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "descriptor_arguments.h"
#include "unix_address.h"

namespace backdoors::network {

namespace {

// From here on `send` says that it is enough, and from there that it is too much.
constexpr size_t kEnoughBytes = 256 * 1024;
constexpr size_t kMostQueuedBytes = 16 * 1024 * 1024;
constexpr size_t kMostQueuedMessages = 4096;
// The event loop has others to serve, too.
constexpr int kMostAtOnce = 64;

}  // namespace

Napi::Function DescriptorChannel::Define(Napi::Env env) {
  return DefineClass(env, kName,
                     {
                         InstanceMethod<&DescriptorChannel::Send>("send"),
                         InstanceMethod<&DescriptorChannel::SetKeepsAlive>("setKeepsAlive"),
                         InstanceMethod<&DescriptorChannel::Close>("close"),
                     });
}

DescriptorChannel::DescriptorChannel(const Napi::CallbackInfo& info) : Wrapped(info) {
  const napi_env env = info.Env();
  const Options listeners(env, info[1]);
  napi_value on_message = nullptr;
  napi_value on_drain = nullptr;
  napi_value on_close = nullptr;
  if (!listeners.Check("listeners") || !listeners.Value("onMessage", &on_message) || !listeners.Value("onDrain", &on_drain) ||
      !listeners.Value("onClose", &on_close) || !CheckFunction(env, on_message, "onMessage") ||
      !CheckFunction(env, on_drain, "onDrain") || !CheckFunction(env, on_close, "onClose") || !Connect(env, info[0]) || !Listen(env)) {
    return;
  }
  on_message_.Set(env, on_message, "backdoors.DescriptorChannel");
  on_drain_.Set(env, on_drain, "backdoors.DescriptorChannel");
  on_close_.Set(env, on_close, "backdoors.DescriptorChannel");
  Tag(info);
  HoldSelf();
}

bool DescriptorChannel::Connect(napi_env env, napi_value target) {
  napi_valuetype type = napi_undefined;
  napi_typeof(env, target, &type);
  if (type == napi_number) {
    const auto accepted = ReadInteger(env, target, "descriptor", 0, INT_MAX);
    if (accepted) fd_ = FileDescriptor(static_cast<int>(*accepted));
    return accepted.has_value();
  }
  const auto path = ReadString(env, target, "path", kMostSocketPathBytes);
  if (!path) return false;
  const char* call = "socket";
  fd_ = FileDescriptor(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd_) {
    call = "connect";
    const sockaddr_un address = UnixAddress(*path);
    if (connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return true;
  }
  const int error = errno;
  fd_.Reset();
  ThrowErrno(env, call, error, "Connecting to " + *path, {.path = *path});
  return false;
}

bool DescriptorChannel::Listen(napi_env env) {
  int error = ready_.Open(environment(), fd_.get(), [this](int status, int events) { status < 0 ? End(-status) : OnReady(events); });
  if (error == 0) error = WatchFor(UV_READABLE);
  if (error == 0) return true;
  CloseResource();
  ThrowErrno(env, "uv_poll_start", -error, "Waiting for messages");
  return false;
}

int DescriptorChannel::WatchFor(int events) { return ready_.Start(events); }

void DescriptorChannel::CloseResource() noexcept {
  ready_.Close();
  fd_.Reset();
  queue_.clear();
  queued_bytes_ = 0;
  on_message_.Reset();
  on_drain_.Reset();
  on_close_.Reset();
  ReleaseSelf();
}

void DescriptorChannel::Close(const Napi::CallbackInfo&) { CloseResource(); }

void DescriptorChannel::OnReady(int events) {
  if ((events & UV_WRITABLE) != 0) OnWritable();
  if (fd_ && (events & (UV_READABLE | UV_DISCONNECT)) != 0) OnReadable();
}

void DescriptorChannel::OnReadable() {
  for (int count = 0; count < kMostAtOnce && fd_; ++count) {
    DescriptorMessage message;
    const int error = ReceiveMessage(fd_.get(), &message);
    if (error == EAGAIN) return;
    if (error != 0) return End(error == ENODATA ? 0 : error);
    Deliver(&message);
  }
}

void DescriptorChannel::Deliver(DescriptorMessage* message) {
  on_message_.Call([message](napi_env env, std::span<napi_value> arguments) -> size_t {
    auto bytes = Napi::Uint8Array::New(env, message->bytes.size());
    std::copy(message->bytes.begin(), message->bytes.end(), bytes.Data());
    auto descriptors = Napi::Array::New(env, message->descriptors.size());
    // The listener's from here on.
    for (uint32_t index = 0; index < message->descriptors.size(); ++index) descriptors.Set(index, message->descriptors[index].Release());
    arguments[0] = bytes;
    arguments[1] = descriptors;
    return 2;
  });
}

void DescriptorChannel::OnWritable() {
  while (!queue_.empty()) {
    const DescriptorMessage& first = queue_.front();
    std::vector<int> descriptors;
    for (const FileDescriptor& each : first.descriptors) descriptors.push_back(each.get());
    const int error = SendMessage(fd_.get(), first.bytes, descriptors);
    if (error == EAGAIN) return;
    if (error != 0) return End(error);
    queued_bytes_ -= first.bytes.size();
    queue_.pop_front();
  }
  const int error = WatchFor(UV_READABLE);
  if (error != 0) return End(-error);
  if (!std::exchange(wants_drain_, false)) return;
  on_drain_.Call([](napi_env, std::span<napi_value>) -> size_t { return 0; });
}

void DescriptorChannel::End(int error) {
  // Closed before it is told, so that whoever is told finds it closed.
  JsCallback told;
  on_close_.MoveTo(&told);
  CloseResource();
  told.Call([error](napi_env env, std::span<napi_value> arguments) -> size_t {
    arguments[0] = Napi::Number::New(env, error);
    return 1;
  });
}

// send(bytes, descriptors): whether more may follow at once.
Napi::Value DescriptorChannel::Send(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto descriptors = ReadDescriptors(env, info[1], kMostDescriptors);
  if (!descriptors) return {};
  const auto bytes = ReadBytes(env, info[0], "message");
  if (!bytes) return {};
  if (bytes->empty() || bytes->size() > kMostMessageBytes) {
    ThrowInvalidArgument(env, "message", "message must be 1 to 65536 bytes long, not " + std::to_string(bytes->size()) + ".");
    return {};
  }
  if (!fd_) {
    ThrowError(env, "CLOSED", "The channel is closed.");
    return {};
  }
  if (queue_.empty()) {
    const int error = SendMessage(fd_.get(), *bytes, *descriptors);
    if (error == 0) return Napi::Boolean::New(env, true);
    if (error != EAGAIN) {
      ThrowErrno(env, "sendmsg", error, "Sending a message");
      return {};
    }
  }
  if (!Queue(env, *bytes, *descriptors)) return {};
  wants_drain_ = queued_bytes_ >= kEnoughBytes || wants_drain_;
  return Napi::Boolean::New(env, queued_bytes_ < kEnoughBytes);
}

// The descriptors are copied, so that their owner may close them at once.
bool DescriptorChannel::Queue(napi_env env, std::span<const uint8_t> bytes, std::span<const int> descriptors) {
  if (queued_bytes_ + bytes.size() > kMostQueuedBytes || queue_.size() >= kMostQueuedMessages) {
    ThrowError(env, "QUEUE_FULL", "The other process does not take what is sent to it.");
    return false;
  }
  DescriptorMessage message = {.bytes = {bytes.begin(), bytes.end()}};
  for (const int each : descriptors) {
    message.descriptors.emplace_back(fcntl(each, F_DUPFD_CLOEXEC, 0));
    if (message.descriptors.back()) continue;
    ThrowErrno(env, "F_DUPFD_CLOEXEC", errno, "Sending a message");
    return false;
  }
  const int error = WatchFor(UV_READABLE | UV_WRITABLE);
  if (error != 0) {
    ThrowErrno(env, "uv_poll_start", -error, "Sending a message");
    return false;
  }
  queued_bytes_ += bytes.size();
  queue_.push_back(std::move(message));
  return true;
}

// setKeepsAlive(keeps)
void DescriptorChannel::SetKeepsAlive(const Napi::CallbackInfo& info) {
  const auto keeps = ReadBoolean(info.Env(), info[0], "keeps");
  if (keeps) ready_.SetKeepsAlive(*keeps);
}

}  // namespace backdoors::network
