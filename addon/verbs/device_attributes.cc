#include "device_attributes.h"

#include <endian.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string>
#include <vector>

namespace backdoors::verbs {

namespace {

const char* PortState(ibv_port_state state) {
  switch (state) {
    case IBV_PORT_DOWN:
      return "PORT_DOWN";
    case IBV_PORT_INIT:
      return "PORT_INIT";
    case IBV_PORT_ARMED:
      return "PORT_ARMED";
    case IBV_PORT_ACTIVE:
      return "PORT_ACTIVE";
    case IBV_PORT_ACTIVE_DEFER:
      return "PORT_ACTIVE_DEFER";
    default:
      return "PORT_NOP";
  }
}

const char* LinkLayer(uint8_t layer) {
  if (layer == IBV_LINK_LAYER_INFINIBAND) return "InfiniBand";
  return layer == IBV_LINK_LAYER_ETHERNET ? "Ethernet" : "unspecified";
}

const char* GidType(uint32_t type) {
  if (type == IBV_GID_TYPE_ROCE_V2) return "roce-v2";
  return type == IBV_GID_TYPE_ROCE_V1 ? "roce-v1" : "ib";
}

const char* Atomics(ibv_atomic_cap capability) {
  if (capability == IBV_ATOMIC_HCA) return "hca";
  return capability == IBV_ATOMIC_GLOB ? "global" : "none";
}

uint32_t MtuBytes(ibv_mtu mtu) { return 128U << mtu; }

Napi::Object DescribeGid(Napi::Env env, const ibv_gid_entry& entry) {
  char netdev[IF_NAMESIZE] = "";
  // An interface of another network namespace has no name here.
  if (entry.ndev_ifindex == 0 || if_indextoname(entry.ndev_ifindex, netdev) == nullptr) netdev[0] = '\0';
  Napi::Object object = Napi::Object::New(env);
  object.Set("index", Napi::Number::New(env, entry.gid_index));
  object.Set("gid", GidText(entry.gid));
  object.Set("type", GidType(entry.gid_type));
  object.Set("netdev", netdev);
  return object;
}

// In use are those that are not zero: the kernel lists no others.
bool QueryGids(ibv_context* context, std::vector<ibv_gid_entry>* entries, Failure* failure) {
  entries->resize(256);
  for (;;) {
    const ssize_t count = ibv_query_gid_table(context, entries->data(), entries->size(), 0);
    if (count >= 0) {
      entries->resize(static_cast<size_t>(count));
      return true;
    }
    if (count != -EINVAL || entries->size() > 65'536) {
      *failure = CallFailed("ibv_query_gid_table", static_cast<int>(-count), "reading the GID table");
      return false;
    }
    entries->resize(entries->size() * 4);
  }
}

Napi::Value DescribePort(Napi::Env env, ibv_context* context, uint8_t number, const std::vector<ibv_gid_entry>& gids,
                         Failure* failure) {
  ibv_port_attr attributes{};
  const int error = ibv_query_port(context, number, &attributes);
  if (error != 0) {
    *failure = CallFailed("ibv_query_port", error, "asking port " + std::to_string(number) + " for its attributes");
    return {};
  }
  Napi::Array entries = Napi::Array::New(env);
  for (const ibv_gid_entry& entry : gids) {
    if (entry.port_num == number) entries.Set(entries.Length(), DescribeGid(env, entry));
  }
  Napi::Object port = Napi::Object::New(env);
  port.Set("number", Napi::Number::New(env, number));
  port.Set("state", PortState(attributes.state));
  port.Set("linkLayer", LinkLayer(attributes.link_layer));
  port.Set("lid", Napi::Number::New(env, attributes.lid));
  port.Set("maxMtu", Napi::Number::New(env, MtuBytes(attributes.max_mtu)));
  port.Set("activeMtu", Napi::Number::New(env, MtuBytes(attributes.active_mtu)));
  port.Set("gids", entries);
  return port;
}

}  // namespace

std::string GidText(const ibv_gid& gid) {
  std::string text;
  for (const uint8_t byte : gid.raw) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", byte);
    text += digits;
  }
  return text;
}

Napi::Value DescribeDevice(Napi::Env env, ibv_context* context, Failure* failure) {
  ibv_device_attr attributes{};
  const int error = ibv_query_device(context, &attributes);
  if (error != 0) {
    *failure = CallFailed("ibv_query_device", error, "asking a device for its attributes");
    return {};
  }
  std::vector<ibv_gid_entry> gids;
  if (!QueryGids(context, &gids, failure)) return {};
  Napi::Array ports = Napi::Array::New(env);
  for (uint8_t number = 1; number <= attributes.phys_port_cnt; ++number) {
    const Napi::Value port = DescribePort(env, context, number, gids, failure);
    if (port.IsEmpty()) return {};
    ports.Set(ports.Length(), port);
  }
  char guid[17];
  std::snprintf(guid, sizeof guid, "%016llx", static_cast<unsigned long long>(be64toh(attributes.node_guid)));
  Napi::Object device = Napi::Object::New(env);
  device.Set("name", ibv_get_device_name(context->device));
  device.Set("guid", guid);
  device.Set("firmware", attributes.fw_ver);
  device.Set("vendorId", Napi::Number::New(env, attributes.vendor_id));
  device.Set("maxQueuePairs", Napi::Number::New(env, attributes.max_qp));
  device.Set("maxWorkRequests", Napi::Number::New(env, attributes.max_qp_wr));
  device.Set("maxCompletions", Napi::Number::New(env, attributes.max_cqe));
  device.Set("maxRegionLength", Napi::BigInt::New(env, attributes.max_mr_size));
  device.Set("maxDestRdAtomic", Napi::Number::New(env, attributes.max_qp_rd_atom));
  device.Set("maxRdAtomic", Napi::Number::New(env, attributes.max_qp_init_rd_atom));
  device.Set("atomics", Atomics(attributes.atomic_cap));
  device.Set("ports", ports);
  return device;
}

Napi::Value ListDevices(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  int count = 0;
  ibv_device** devices = ibv_get_device_list(&count);
  // A kernel without InfiniBand has no devices; that is an answer, not a failure.
  if (devices == nullptr && errno == ENOSYS) return Napi::Array::New(env);
  if (devices == nullptr) {
    Throw(env, CallFailed("ibv_get_device_list", errno, "listing the devices"));
    return {};
  }
  Napi::Array list = Napi::Array::New(env);
  Failure failure;
  for (int index = 0; index < count && failure.message.empty(); ++index) {
    ibv_context* context = ibv_open_device(devices[index]);
    if (context == nullptr) {
      failure = CallFailed("ibv_open_device", errno, std::string("opening ") + ibv_get_device_name(devices[index]));
      break;
    }
    const Napi::Value device = DescribeDevice(env, context, &failure);
    if (!device.IsEmpty()) list.Set(list.Length(), device);
    ibv_close_device(context);
  }
  ibv_free_device_list(devices);
  if (!failure.message.empty()) {
    Throw(env, failure);
    return {};
  }
  return list;
}

}  // namespace backdoors::verbs
