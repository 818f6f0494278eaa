// The class `NeighbourListener` of JavaScript: what neighbours of an interface say of whose an address is.
#pragma once

#include "common/file_descriptor.h"
#include "common/js_callback.h"
#include "common/uv_handle.h"
#include "common/wrapped.h"

namespace backdoors::network {

class NeighbourListener : public Wrapped<NeighbourListener> {
 public:
  static constexpr const char* kName = "NeighbourListener";
  static constexpr napi_type_tag kTypeTag = {0x6c0fb2497ae1d853u, 0x92d7481ce65fa30bu};
  static Napi::Function Define(Napi::Env env);

  // new NeighbourListener(interface, isIpv6, onFrame)
  explicit NeighbourListener(const Napi::CallbackInfo& info);
  ~NeighbourListener() override { CloseResource(); }

  void CloseResource() noexcept override;

 private:
  int Listen(int interface_index, bool is_ipv6, const char** call);
  void OnReadable();
  void Close(const Napi::CallbackInfo& info);

  FileDescriptor fd_;
  PollHandle readable_;
  JsCallback on_frame_;
};

}  // namespace backdoors::network
