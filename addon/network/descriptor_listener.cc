#include "descriptor_listener.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "unix_address.h"

namespace backdoors::network {

namespace {

constexpr int kBacklog = 128;
constexpr mode_t kOwnerOnly = 0600;
constexpr uint64_t kRestMs = 100;

bool MayConnect(int fd) {
  ucred peer = {};
  socklen_t length = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return false;
  return peer.uid == 0 || peer.uid == geteuid();
}

}  // namespace

Napi::Function DescriptorListener::Define(Napi::Env env) {
  return DefineClass(env, kName,
                     {
                         InstanceMethod<&DescriptorListener::SetKeepsAlive>("setKeepsAlive"),
                         InstanceMethod<&DescriptorListener::Close>("close"),
                     });
}

DescriptorListener::DescriptorListener(const Napi::CallbackInfo& info) : Wrapped(info) {
  const napi_env env = info.Env();
  if (!CheckFunction(env, info[1], "onConnection")) return;
  auto path = ReadString(env, info[0], "path", kMostSocketPathBytes);
  if (!path) return;
  path_ = std::move(*path);
  const char* call = nullptr;
  int error = Listen(&call);
  if (error == 0) {
    call = "uv_poll_start";
    error = -readable_.Open(environment(), fd_.get(), [this](int, int) { OnReadable(); });
    if (error == 0) error = -resting_.Open(environment(), [this]() { readable_.Start(UV_READABLE); });
    if (error == 0) error = -readable_.Start(UV_READABLE);
  }
  if (error != 0) {
    CloseResource();
    ThrowErrno(env, call, error, "Listening on " + path_, {.path = path_});
    return;
  }
  on_connection_.Set(env, info[1], "backdoors.DescriptorListener");
  Tag(info);
  HoldSelf();
}

int DescriptorListener::Listen(const char** call) {
  *call = "socket";
  FileDescriptor fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return errno;
  // The file gets the mode of the socket: nobody else can connect even in the moment between bind and chmod.
  *call = "fchmod";
  if (fchmod(fd.get(), kOwnerOnly) != 0) return errno;
  *call = "bind";
  const sockaddr_un address = UnixAddress(path_);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return errno;
  // From here on the file is this object's to remove.
  fd_ = std::move(fd);
  *call = "listen";
  return listen(fd_.get(), kBacklog) == 0 ? 0 : errno;
}

void DescriptorListener::CloseResource() noexcept {
  readable_.Close();
  resting_.Close();
  if (fd_) unlink(path_.c_str());
  fd_.Reset();
  on_connection_.Reset();
  ReleaseSelf();
}

void DescriptorListener::Close(const Napi::CallbackInfo&) { CloseResource(); }

void DescriptorListener::SetKeepsAlive(const Napi::CallbackInfo& info) {
  const auto keeps = ReadBoolean(info.Env(), info[0], "keeps");
  if (!keeps) return;
  readable_.SetKeepsAlive(*keeps);
  resting_.SetKeepsAlive(*keeps);
}

void DescriptorListener::OnReadable() {
  while (fd_) {
    FileDescriptor accepted(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!accepted) {
      // Where this process or the machine has no descriptor left, what waits would wake the event loop again at once, and for nothing.
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) Rest();
      return;
    }
    if (!MayConnect(accepted.get())) continue;
    on_connection_.Call([&accepted](napi_env env, std::span<napi_value> arguments) -> size_t {
      arguments[0] = Napi::Number::New(env, accepted.Release());
      return 1;
    });
  }
}

void DescriptorListener::Rest() {
  if (resting_.Start(kRestMs) == 0) readable_.Stop();
}

}  // namespace backdoors::network
