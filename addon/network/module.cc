// The target *network*; src/native/network.ts states its surface. Functions of this file open the socket that they need and
// close it before they return; what restores connections gives descriptors to its caller.
#include <napi.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>

#include "common/arguments.h"
#include "common/error.h"
#include "common/initialize.h"
#include "connection_functions.h"
#include "descriptor_channel.h"
#include "descriptor_listener.h"
#include "interface.h"
#include "neighbour_listener.h"
#include "packet_socket.h"
#include "route_socket.h"

namespace backdoors::network {

namespace {

constexpr size_t kMaxNameBytes = 255;
constexpr size_t kIpv4Bytes = 4;
constexpr size_t kIpv6Bytes = 16;
constexpr size_t kMaxFrameBytes = 65536;
constexpr int64_t kBitsPerByte = 8;

void ThrowFailed(napi_env env, const char* call, int error, const std::string& doing, const std::string& interface_name) {
  ThrowErrno(env, call, error, doing, {.interface = interface_name});
}

// The interface named by an argument; nothing after throwing.
std::optional<Interface> ReadInterface(napi_env env, napi_value value, std::string* name) {
  auto text = ReadString(env, value, "interface", kMaxNameBytes);
  if (!text) return std::nullopt;
  *name = std::move(*text);
  Interface found;
  const char* call = nullptr;
  const int error = DescribeInterface(*name, &found, &call);
  if (error == 0) return found;
  ThrowFailed(env, call, error, "Looking at interface " + *name, *name);
  return std::nullopt;
}

// describeInterface(interface)
Napi::Value Describe(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  std::string name;
  const auto found = ReadInterface(env, info[0], &name);
  if (!found) return {};
  Napi::Object result = Napi::Object::New(env);
  auto address = Napi::Uint8Array::New(env, kHardwareAddressBytes);
  std::copy(found->hardware_address.begin(), found->hardware_address.end(), address.Data());
  result.Set("index", found->index);
  result.Set("isUp", found->is_up);
  result.Set("isEthernet", found->is_ethernet);
  result.Set("hardwareAddress", address);
  return result;
}

// Reads (interface, address, prefixLength), and opens the socket; false after throwing. The address is a copy: its
// owner may change while the rest is read.
bool ReadChange(const Napi::CallbackInfo& info, std::string* name, std::array<uint8_t, kIpv6Bytes>* copy,
                InterfaceAddress* address) {
  const napi_env env = info.Env();
  const auto prefix_length = ReadInteger(env, info[2], "prefixLength", 0, kIpv6Bytes * kBitsPerByte);
  if (!prefix_length) return false;
  const auto found = ReadInterface(env, info[0], name);
  if (!found) return false;
  const auto bytes = ReadBytes(env, info[1], "address");
  if (!bytes) return false;
  if (bytes->size() != kIpv4Bytes && bytes->size() != kIpv6Bytes) {
    ThrowInvalidArgument(env, "address", "address must be 4 or 16 bytes long, not " + std::to_string(bytes->size()) + ".");
    return false;
  }
  if (*prefix_length > static_cast<int64_t>(bytes->size()) * kBitsPerByte) {
    ThrowInvalidArgument(env, "prefixLength", "prefixLength is longer than the address.");
    return false;
  }
  std::copy(bytes->begin(), bytes->end(), copy->begin());
  *address = {found->index, std::span(*copy).first(bytes->size()), static_cast<uint8_t>(*prefix_length)};
  return true;
}

// Adds or removes: true where something has changed, false where `harmless` says that it was so already.
Napi::Value Change(const Napi::CallbackInfo& info, int (RouteSocket::*change)(const InterfaceAddress&), const char* call,
                   const char* doing, int harmless) {
  const Napi::Env env = info.Env();
  std::string name;
  std::array<uint8_t, kIpv6Bytes> copy = {};
  InterfaceAddress address;
  if (!ReadChange(info, &name, &copy, &address)) return {};
  RouteSocket socket;
  int error = socket.Open();
  if (error != 0) {
    ThrowFailed(env, "socket", error, "Opening a netlink socket", name);
    return {};
  }
  error = (socket.*change)(address);
  if (error == 0 || error == harmless) return Napi::Boolean::New(env, error == 0);
  ThrowFailed(env, call, error, std::string(doing) + name, name);
  return {};
}

// addAddress(interface, address, prefixLength)
Napi::Value AddAddress(const Napi::CallbackInfo& info) {
  return Change(info, &RouteSocket::Add, "RTM_NEWADDR", "Adding an address to ", EEXIST);
}

// removeAddress(interface, address, prefixLength)
Napi::Value RemoveAddress(const Napi::CallbackInfo& info) {
  return Change(info, &RouteSocket::Remove, "RTM_DELADDR", "Removing an address from ", EADDRNOTAVAIL);
}

// sendFrame(interface, frame)
void Send(const Napi::CallbackInfo& info) {
  const napi_env env = info.Env();
  std::string name;
  const auto found = ReadInterface(env, info[0], &name);
  if (!found) return;
  const auto frame = ReadBytes(env, info[1], "frame");
  if (!frame) return;
  if (frame->size() < kEthernetHeaderBytes || frame->size() > kMaxFrameBytes) {
    ThrowInvalidArgument(env, "frame", "frame must be 14 to 65536 bytes long, not " + std::to_string(frame->size()) + ".");
    return;
  }
  const char* call = nullptr;
  const int error = SendFrame(found->index, *frame, &call);
  if (error != 0) ThrowFailed(env, call, error, "Sending a frame by " + name, name);
}

Napi::Object Initialize(Napi::Env env, Napi::Object exports) {
  if (!InitializeTarget(env, exports)) return exports;
  exports.Set("describeInterface", Napi::Function::New<Describe>(env, "describeInterface"));
  exports.Set("addAddress", Napi::Function::New<AddAddress>(env, "addAddress"));
  exports.Set("removeAddress", Napi::Function::New<RemoveAddress>(env, "removeAddress"));
  exports.Set("sendFrame", Napi::Function::New<Send>(env, "sendFrame"));
  DefineConnectionFunctions(env, exports);
  exports.Set(DescriptorChannel::kName, DescriptorChannel::Define(env));
  exports.Set(DescriptorListener::kName, DescriptorListener::Define(env));
  exports.Set(NeighbourListener::kName, NeighbourListener::Define(env));
  return exports;
}

NODE_API_MODULE(network, Initialize)

}  // namespace

}  // namespace backdoors::network
