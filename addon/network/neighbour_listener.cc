#include "neighbour_listener.h"

#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "common/arguments.h"
#include "common/error.h"
#include "interface.h"

namespace backdoors::network {

namespace {

// Longer than ARP over Ethernet, and than a neighbour advertisement with its one option.
constexpr size_t kMostFrameBytes = 128;
// The event loop has others to serve, too.
constexpr int kMostAtOnce = 64;

constexpr uint32_t kNextHeaderAt = 20;
constexpr uint32_t kIcmp6TypeAt = 54;
constexpr uint32_t kNeighbourAdvertisement = 136;

// Of all that comes by IPv6, neighbour advertisements only.
std::array<sock_filter, 6> AdvertisementsOnly() {
  return {{
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, kNextHeaderAt),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_ICMPV6, 0, 3),
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, kIcmp6TypeAt),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kNeighbourAdvertisement, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, kMostFrameBytes),
      BPF_STMT(BPF_RET | BPF_K, 0),
  }};
}

}  // namespace

Napi::Function NeighbourListener::Define(Napi::Env env) {
  return DefineClass(env, kName, {InstanceMethod<&NeighbourListener::Close>("close")});
}

NeighbourListener::NeighbourListener(const Napi::CallbackInfo& info) : Wrapped(info) {
  const napi_env env = info.Env();
  const auto name = ReadString(env, info[0], "interface", IFNAMSIZ - 1);
  if (!name) return;
  const auto is_ipv6 = ReadBoolean(env, info[1], "isIpv6");
  if (!is_ipv6 || !CheckFunction(env, info[2], "onFrame")) return;
  Interface found;
  const char* call = nullptr;
  int error = DescribeInterface(*name, &found, &call);
  if (error == 0) error = Listen(found.index, *is_ipv6, &call);
  if (error != 0) {
    CloseResource();
    ThrowErrno(env, call, error, "Listening to neighbours on " + *name, {.interface = *name});
    return;
  }
  on_frame_.Set(env, info[2], "backdoors.NeighbourListener");
  Tag(info);
  HoldSelf();
}

int NeighbourListener::Listen(int interface_index, bool is_ipv6, const char** call) {
  *call = "socket";
  // Protocol 0: it receives nothing before it is bound.
  fd_ = FileDescriptor(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd_) return errno;
  if (is_ipv6) {
    *call = "SO_ATTACH_FILTER";
    std::array filter = AdvertisementsOnly();
    const sock_fprog program = {.len = static_cast<uint16_t>(filter.size()), .filter = filter.data()};
    if (setsockopt(fd_.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0) return errno;
  }
  *call = "bind";
  sockaddr_ll address = {};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(is_ipv6 ? ETH_P_IPV6 : ETH_P_ARP);
  address.sll_ifindex = interface_index;
  if (bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return errno;
  *call = "uv_poll_start";
  int error = readable_.Open(environment(), fd_.get(), [this](int, int) { OnReadable(); });
  if (error == 0) error = readable_.Start(UV_READABLE);
  return -error;
}

void NeighbourListener::CloseResource() noexcept {
  readable_.Close();
  fd_.Reset();
  on_frame_.Reset();
  ReleaseSelf();
}

void NeighbourListener::Close(const Napi::CallbackInfo&) { CloseResource(); }

void NeighbourListener::OnReadable() {
  for (int count = 0; count < kMostAtOnce && fd_; ++count) {
    std::array<uint8_t, kMostFrameBytes> frame;
    sockaddr_ll from = {};
    socklen_t from_bytes = sizeof from;
    const ssize_t received =
        recvfrom(fd_.get(), frame.data(), frame.size(), MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&from), &from_bytes);
    // An interface that goes down says so once.
    if (received < 0) return;
    if (from.sll_pkttype == PACKET_OUTGOING) continue;
    on_frame_.Call([&frame, received](napi_env env, std::span<napi_value> arguments) -> size_t {
      auto bytes = Napi::Uint8Array::New(env, static_cast<size_t>(received));
      std::copy_n(frame.begin(), received, bytes.Data());
      arguments[0] = bytes;
      return 1;
    });
  }
}

}  // namespace backdoors::network
