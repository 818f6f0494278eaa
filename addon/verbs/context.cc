#include "context.h"

#include <fcntl.h>

#include <cerrno>

namespace backdoors::verbs {

std::shared_ptr<Context> Context::Open(const std::string& name, Failure* failure) {
  int count = 0;
  ibv_device** devices = ibv_get_device_list(&count);
  if (devices == nullptr) {
    *failure = CallFailed("ibv_get_device_list", errno, "listing the devices");
    return nullptr;
  }
  std::shared_ptr<Context> opened;
  std::string names;
  bool found = false;
  for (int index = 0; index < count && !found; ++index) {
    const std::string candidate = ibv_get_device_name(devices[index]);
    names += (names.empty() ? "" : ", ") + candidate;
    if (candidate != name) continue;
    found = true;
    ibv_context* context = ibv_open_device(devices[index]);
    if (context == nullptr) {
      *failure = CallFailed("ibv_open_device", errno, "opening the device " + name);
    } else {
      // The event loop says when there is something to read; nothing may ever block in it.
      fcntl(context->async_fd, F_SETFL, fcntl(context->async_fd, F_GETFL) | O_NONBLOCK);
      opened.reset(new Context(context, name));
    }
  }
  ibv_free_device_list(devices);
  if (!found) {
    failure->code = "DEVICE_NOT_FOUND";
    failure->message = "there is no RDMA device " + name + "; present: " + (names.empty() ? "none" : names);
  }
  return opened;
}

Context::~Context() { ibv_close_device(context_); }

}  // namespace backdoors::verbs
